from __future__ import annotations

import math

import oracles
import pytest
import torch

from aream.cams import affinity
from aream.cams.affinity import LayerQK, affinity_logits, attention, layer_weights, map_entropy, mean_attention


@pytest.fixture
def queries_keys():
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 2 + 6, 4)
    return torch.randn(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


def test_affinity_logits_are_the_mean_over_heads(queries_keys):
    q, k = queries_keys
    expected = oracles.mean_logits(q, k)[:, 2:, 2:]
    torch.testing.assert_close(affinity_logits(LayerQK(q, k), 2), expected, rtol=0, atol=1e-12)


def test_affinity_logits_have_the_gradient_of_the_per_head_form(queries_keys):
    q, k = (x.clone().requires_grad_() for x in queries_keys)
    assert torch.autograd.gradcheck(lambda q, k: affinity_logits(LayerQK(q, k), 2), (q, k))


def test_entropy_by_sum_counts_what_is_above_zero():
    """Hosts need not rectify their CAM."""
    cam = torch.tensor([[[[3.0, -5.0], [1.0, 0.0]]]])
    found = map_entropy(torch.eye(4)[None], cam, torch.ones(1, 1, dtype=torch.bool), "raw", "sum")
    assert found.item() == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)), rel=1e-5)


def test_mean_attention_drops_class_columns_without_renormalising(queries_keys):
    q, k = queries_keys
    found = mean_attention(LayerQK(q, k), slice(None), 2)
    torch.testing.assert_close(found.double(), oracles.mean_softmax(q, k, 2), rtol=0, atol=1e-6)
    assert (found.sum(dim=-1) < 1).all()


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, None), slice(3, 4)])
def test_rows_of_the_mean_attention_are_those_of_their_queries(queries_keys, rows):
    q, k = queries_keys
    expected = oracles.mean_softmax(q, k, 2)[:, rows]
    torch.testing.assert_close(mean_attention(LayerQK(q, k), rows, 2).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 3, 8, 8), (2, 3, 8, 8)])
def test_a_bias_is_added_before_the_softmax(queries_keys, shape):
    """Of a column for all rows, of each pair, and of each image's pairs."""
    q, k = queries_keys
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    layer, rows = LayerQK(q, k, bias), slice(2, None)
    summed, logits = torch.zeros(2, 8, 8).double(), torch.zeros(2, 6, 6).double()
    for image in range(2):
        for head in range(3):
            pairs = torch.empty(8, 8).double()
            for i in range(8):
                for j in range(8):
                    own = bias.expand(2, 3, 8, 8)[image, head, i, j]
                    pairs[i, j] = (q[image, head, i] * k[image, head, j]).sum() / 2 + own
            logits[image] += pairs[2:, 2:] / 3
            summed[image] += pairs.exp() / pairs.exp().sum(dim=1, keepdim=True) / 3
    torch.testing.assert_close(affinity_logits(layer, 2), logits)
    torch.testing.assert_close(mean_attention(layer, rows, 2).double(), summed[:, 2:, 2:], rtol=0, atol=1e-6)
    torch.testing.assert_close(attention(layer, slice(None), slice(None)).double(), summed, rtol=0, atol=1e-6)
    alone = attention(layer.image_rows(1, 2), slice(None), slice(None))
    torch.testing.assert_close(alone[0].double(), summed[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("elements", [1, 2**26])
def test_heads_together_are_heads_one_by_one(queries_keys, device, elements, monkeypatch):
    monkeypatch.setattr(affinity, "GPU_ELEMENTS", elements)
    q, k = (x.float().to(device) for x in queries_keys)
    found = mean_attention(LayerQK(q, k), slice(None), 2).cpu().double()
    torch.testing.assert_close(found, oracles.mean_softmax(*queries_keys, 2), rtol=0, atol=1e-5)


def test_mean_attention_of_one_token_and_no_class_token():
    q = torch.randn(1, 2, 1, 4)
    torch.testing.assert_close(mean_attention(LayerQK(q, q), slice(None), 0), torch.ones(1, 1, 1))


@pytest.mark.parametrize("entropy_input", ["raw", "minmax"])
@pytest.mark.parametrize("entropy_prob", ["softmax", "sum"])
def test_entropy_against_a_loop(entropy_input, entropy_prob):
    generator = torch.Generator().manual_seed(1)
    affinity = torch.rand(2, 6, 6, generator=generator, dtype=torch.float64).softmax(-1)
    cam = torch.rand(2, 3, 2, 3, generator=generator, dtype=torch.float64) * 4
    present = torch.tensor([[True, False, True], [False, True, False]])
    found = map_entropy(affinity, cam, present, entropy_input, entropy_prob)
    for image in range(2):
        refined = [0.0] * 6
        for c in range(3):
            if not present[image, c]:
                continue
            values = cam[image, c].flatten().tolist()
            if entropy_input == "minmax":
                low, high = min(values), max(values)
                values = [(v - low) / (high - low + 1e-6) for v in values]
            for m in range(6):
                refined[m] += sum(float(affinity[image, m, n]) * values[n] for n in range(6))
        weights = [math.exp(v) for v in refined] if entropy_prob == "softmax" else refined
        probabilities = [w / sum(weights) for w in weights]
        expected = -sum(p * math.log2(p) for p in probabilities)
        assert found[image].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("entropy_prob", ["softmax", "sum"])
def test_entropy_of_an_image_without_activation_is_that_of_a_uniform_map(entropy_prob):
    found = map_entropy(torch.eye(4)[None], torch.zeros(1, 2, 2, 2), torch.zeros(1, 2).bool(), "raw", entropy_prob)
    assert found.item() == pytest.approx(2.0)


def test_layers_of_less_entropy_weigh_more():
    weights = layer_weights(torch.tensor([3.0, 1.0, 2.0]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 1.0, 0.5]))


def test_equal_entropies_weigh_uniformly():
    assert layer_weights(torch.full((4,), 2.5)) is None
