"""Copies of a ViT's class token: one a class, and registers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from small_transformers import built, images, small
from timm import create_model

from aream.backbones import vit
from aream.cams.affinity import mean_attention
from aream.errors import ConfigError

NAME = "vit_tiny_patch16_224"
COPIES = {"class_tokens": "per_class", "registers": 3}


@pytest.fixture
def weights(tmp_path):
    donor = create_model(NAME, img_size=160, depth=2, embed_dim=48, num_heads=3)
    torch.nn.init.normal_(donor.cls_token)
    path = str(tmp_path / "w.safetensors")
    save_file(donor.state_dict(), path)
    return donor, path


def test_every_token_is_the_one_of_the_weights_and_registers_are_apart_by_position(weights):
    donor, path = weights
    host = built(small(NAME, weights=path, **COPIES), image_size=160, classes=4)
    assert (host.prefix_tokens, host.class_rows) == (7, slice(0, 4))
    assert torch.equal(host.vit.cls_token, donor.cls_token.expand(1, 4, -1))
    assert torch.equal(host.vit.reg_token, donor.cls_token.expand(1, 3, -1))
    classes, registers, patches = host.vit.pos_embed.split([4, 3, 100], dim=1)
    assert torch.equal(classes, donor.pos_embed[:, :1].expand(1, 4, -1))
    assert torch.equal(patches, donor.pos_embed[:, 1:])
    assert registers.abs().max() <= 2
    assert 0.7 < registers.std() < 1.0  # of a standard normal cut at 2: 0.88
    torch.testing.assert_close(host.vit.norm.weight, donor.norm.weight)


def test_a_host_reads_its_own_file_with_all_its_tokens(weights, tmp_path):
    host = built(small(NAME, weights=weights[1], **COPIES), image_size=160)
    with torch.no_grad():
        host.vit.cls_token.normal_()
    path = str(tmp_path / "own.safetensors")
    save_file(host.state_dict(), path)
    again = built(small(NAME, weights=path, **COPIES), image_size=160)
    for name, value in host.state_dict().items():
        if "qkv" not in name and "_proj" not in name:  # which `built` multiplies
            assert torch.equal(again.state_dict()[name], value), name


def test_equal_tokens_see_the_same_and_the_attention_of_each_fuses_its_own_class():
    host = built(small(NAME, localisation="fused", **COPIES))
    with torch.no_grad():
        output = host(images(host.patch_size, (224, 224)))
        rows = mean_attention(output.layers[-1], slice(0, 4), 7)
        torch.testing.assert_close(rows, rows[:, :1].expand_as(rows))
        host.vit.cls_token[:, 1].normal_(std=3)
        output = host(images(host.patch_size, (224, 224)))
    maps = torch.stack([mean_attention(layer, slice(0, 4), 7) for layer in output.layers]).mean(dim=0)
    torch.testing.assert_close(host.localise(output), output.cam * maps.reshape(output.cam.shape))
    assert (maps[:, 0] - maps[:, 1]).abs().max() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 3])
def test_copies_that_share_the_mass_of_one_leave_the_pretrained_network_as_it_is(weights, registers):
    donor, path = weights
    batch = images(16, (160, 160))
    expected = donor.eval().forward_features(batch)
    found = {}
    for mass in ("split", "copied"):
        changes = {"class_tokens": "per_class", "registers": registers, "class_token_mass": mass}
        torch.manual_seed(0)
        host = vit.build(small(NAME, weights=path, **changes), classes=20, image_size=160).eval()
        if registers:  # as if they stood where the class token stands
            host.vit.pos_embed[:, 20 : 20 + registers] = host.vit.pos_embed[:, :1]
        found[mass] = host(batch).tokens[-1]
    prefix, patches = found["split"].split([20 + registers, 100], dim=1)
    torch.testing.assert_close(patches, expected[:, 1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prefix, expected[:, :1].expand_as(prefix), rtol=1e-5, atol=1e-5)
    assert (found["copied"][:, -100:] - patches).abs().max() > 1e-2


def test_the_mass_of_a_single_token_is_not_divided():
    with pytest.raises(ConfigError, match="class_token_mass: split divides among copies of the class token"):
        small(NAME, class_token_mass="split")


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "deit3_small_patch16_224", "eva02_tiny_patch14_224"])
def test_a_model_without_a_token_to_copy_is_refused(name):
    with pytest.raises(ConfigError, match="copies are made of one class token"):
        vit.shape(small(name, class_tokens="per_class"))
    with pytest.raises(ConfigError, match=r"registers: need a number in 0\.\.64"):
        small(name, registers=65)
