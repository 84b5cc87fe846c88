"""What is written down of fused attention, against the attention itself."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch.nn import functional as F

from aream.backbones._attention_record import AttentionRecord
from aream.cams.affinity import patch_affinity
from aream.errors import ConfigError

HEADS = torch.randn(3, 2, 3, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [None, (7, 7), (3, 7, 7), (1, 3, 7, 7), (2, 1, 1, 7)], ids=str)
def test_queries_keys_and_bias_give_the_output(shape):
    """Given by position or by name; axes that a bias lacks are all its images, heads or rows."""
    query, key, value = HEADS.unbind(0)
    bias = None if shape is None else torch.randn(shape, generator=torch.Generator().manual_seed(1))
    layers = []
    with AttentionRecord(layers):
        first = F.scaled_dot_product_attention(query, key, value, bias)
        second = F.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=bias, scale=0.5)
    outside = F.scaled_dot_product_attention(query, key, value, bias)
    assert len(layers) == 2
    assert torch.equal(first, outside)
    for layer, found in zip(layers, (first, second), strict=True):
        logits = layer.queries @ layer.keys.transpose(2, 3) / 2
        weights = (logits if layer.bias is None else logits + layer.bias).softmax(dim=-1)
        torch.testing.assert_close(weights @ value, found)
        torch.testing.assert_close(patch_affinity(layer, 2), weights[:, :, 2:, 2:].mean(dim=1))
    if shape is None:
        torch.testing.assert_close(patch_affinity(layers[0], 2), oracles.mean_softmax(query, key, 2)[:, 2:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"is_causal": True}, "causal"),
        ({"attn_mask": torch.ones(7, 7, dtype=torch.bool)}, "boolean mask"),
        ({"scale": 1.0}, "scaled by 1, not"),
    ],
)
def test_other_attention_is_refused(options, said):
    query, key, value = HEADS.unbind(0)
    with pytest.raises(ConfigError, match=said), AttentionRecord([]):
        F.scaled_dot_product_attention(query, key, value, **options)


def test_attention_over_other_tokens_is_refused():
    query, key, value = HEADS.unbind(0)
    with pytest.raises(ConfigError, match="not one of all tokens"), AttentionRecord([]):
        F.scaled_dot_product_attention(query, key[:, :, :5], value[:, :, :5])
