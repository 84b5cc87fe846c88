"""Heads of the host of timm's transformers: bias, pooling and rectifying."""

from __future__ import annotations

import pytest
import torch
from small_transformers import built, images, small

from aream.backbones import vit
from aream.config import canonical
from aream.errors import ConfigError

NAME = "vit_tiny_patch16_224"


@pytest.mark.parametrize("auxiliary", [None, 0])
def test_heads_on_channel_maxima_read_every_channels_largest_token(auxiliary):
    host = built(small(NAME, head_kernel=1, head_bias=False, pooling="channel_max", auxiliary_layer=auxiliary))
    heads = [host.head] if auxiliary is None else [host.head, host.auxiliary_head]
    assert all(head.bias is None for head in heads)
    with torch.no_grad():
        output = host(images(16, (224, 224)))
        layers = [output.tokens[-1]] if auxiliary is None else [output.tokens[-1], host.vit.norm(output.tokens[0])]
        for head, logits, cam, tokens in zip(heads, output.logits, output.cams, layers, strict=True):
            weight, patches = head.weight.flatten(1), tokens[:, 1:]
            torch.testing.assert_close(logits, patches.amax(dim=1) @ weight.T)
            torch.testing.assert_close(cam.flatten(2).transpose(1, 2), (patches @ weight.T).relu())


def test_a_cam_that_is_not_rectified_has_the_negative_scores_too():
    outputs = [built(small(NAME, rectified=rectified))(images(16, (224, 224))) for rectified in (True, False)]
    assert outputs[1].cam.min() < 0
    assert torch.equal(outputs[0].cam, outputs[1].cam.relu())


def test_channel_maxima_are_of_single_tokens():
    with pytest.raises(ConfigError, match="pooling: channel_max needs head_kernel: 1, got 3"):
        small(NAME, pooling="channel_max")


def test_identities_of_older_hosts_are_as_before():
    added = {"head_bias", "rectified", "class_tokens", "registers", "class_token_mass"}
    assert added.isdisjoint(canonical(vit.Config()))
