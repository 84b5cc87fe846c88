"""Region activation and region affinity consistency: the authors' numbers, equations in the plain form, memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from aream.cams.affinity import LayerQK
from aream.errors import ConfigError
from aream.methods._attention_consistency import consistency, distances
from aream.methods._second_view import aligned_patches, second_view

GOLDEN = Path(__file__).resolve().parents[2] / "support" / "golden"
EXACT = {"rtol": 0, "atol": 1e-10}
PATCH = 4
VIEWS = [
    ("mirror", (0, 0), (3, 5)),
    ("mirror", (0, 0), (4, 4)),
    ("rotation", (0, 0), (4, 4)),
    ("translation", (1, 2), (3, 5)),
    ("translation", (-2, 1), (4, 4)),
    ("translation", (0, -3), (2, 4)),
]


def random_layers(grid, prefix=2, count=2, bias=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = prefix + grid[0] * grid[1]

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        LayerQK(drawn(2, 3, tokens, 4), drawn(2, 3, tokens, 4), None if bias is None else drawn(*bias, tokens))
        for _ in range(count)
    ]


def seen(images):
    """What a patch shows, by its numbers; one of zeros is not seen."""
    unfolded = torch.nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)[0]
    return unfolded.sort(dim=1).values  # a turned patch holds the same pixels


@pytest.mark.parametrize(("transform", "shift", "grid"), VIEWS)
def test_aligned_patches_show_the_same(transform, shift, grid):
    images = torch.rand(1, 3, grid[0] * PATCH, grid[1] * PATCH) + 1
    view = second_view(images, transform, shift, PATCH)
    first, second, shared = aligned_patches(grid, transform, shift)
    numbers = torch.arange(grid[0] * grid[1])
    first = numbers if first is None else first
    assert torch.equal(first.sort().values, numbers)
    assert torch.equal(second.sort().values, numbers)
    one, other = seen(images)[first], seen(view)[second]
    assert torch.equal(one[:shared], other[:shared])
    assert shared == int((seen(view).sum(dim=1) > 0).sum())


def test_what_no_second_view_can_be_made_of_is_refused():
    with pytest.raises(ConfigError, match="rotation needs square images, got 8 x 12 pixels"):
        second_view(torch.zeros(1, 3, 8, 12), "rotation", (0, 0), 4)
    with pytest.raises(ConfigError, match="rotation needs square images, got 2 x 3 patches"):
        aligned_patches((2, 3), "rotation", (0, 0))
    for shift in ((2, 0), (0, -3)):
        with pytest.raises(ConfigError, match=r"shift: need less than the 2 x 3 patches"):
            second_view(torch.zeros(1, 3, 8, 12), "translation", shift, 4)
        with pytest.raises(ConfigError, match=r"shift: need less than the 2 x 3 patches"):
            aligned_patches((2, 3), "translation", shift)


def test_distances_are_the_authors():
    stored = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN / "acr_consistency.npz").items()}
    _, order, _ = aligned_patches((4, 4), "mirror", (0, 0))
    assert torch.equal(order, stored["permutation"])
    one, other = (stored[f"attention_{view}"].requires_grad_() for view in (1, 2))
    index = torch.cat([torch.tensor([0]), order + 1])
    terms = distances(one.flatten(0, 1), other.flatten(0, 1)[:, index][:, :, index], 1, slice(0, 1))
    terms.sum().backward()
    torch.testing.assert_close(terms[0], stored["loss_activation"], **EXACT)
    torch.testing.assert_close(terms[1], stored["loss_affinity"], **EXACT)
    torch.testing.assert_close(one.grad, stored["grad_1"], **EXACT)
    torch.testing.assert_close(other.grad, stored["grad_2"], **EXACT)


def plain_terms(first, second, transform, shift, grid, prefix, rows):
    """Entry by entry: of the pairs of patches that both views show, wherever the second one shows them."""
    h, w = grid

    def place(r, c):
        moved = {"mirror": (r, w - 1 - c), "rotation": (w - 1 - c, r), "translation": (r + shift[0], c + shift[1])}
        row, column = moved[transform]
        return row * w + column if 0 <= row < h and 0 <= column < w else None

    both = [(r * w + c, place(r, c)) for r, c in itertools.product(range(h), range(w)) if place(r, c) is not None]
    activation, affinity = [], []
    for one, other in zip(first, second, strict=True):
        maps = []
        for layer in (one, other):
            logits = layer.queries @ layer.keys.transpose(2, 3) / layer.keys.shape[-1] ** 0.5
            maps.append((logits + (0 if layer.bias is None else layer.bias)).softmax(dim=-1).mean(dim=1))
        for image in range(2):
            a, b = maps[0][image], maps[1][image]
            for n, m in both:
                for row in range(prefix)[rows]:
                    activation.append((a[row, prefix + n] - b[row, prefix + m]).abs())
                for other_n, other_m in both:
                    affinity.append((a[prefix + n, prefix + other_n] - b[prefix + m, prefix + other_m]).abs())
    return torch.stack([torch.stack(activation).mean(), torch.stack(affinity).mean()])


@pytest.mark.parametrize("bias", [None, (1, 3, 1), (2, 1, 22)])
@pytest.mark.parametrize(("transform", "shift", "grid"), VIEWS)
def test_consistency_is_that_of_the_patches_both_views_show(transform, shift, grid, bias):
    if bias is not None and bias[2] > 1:
        bias = (*bias[:2], 2 + grid[0] * grid[1])
    first, second = (random_layers(grid, bias=bias, seed=seed) for seed in (1, 2))
    one, other, shared = aligned_patches(grid, transform, shift)
    found = consistency(first, second, (one, other), shared, 2, slice(0, 1))
    torch.testing.assert_close(found, plain_terms(first, second, transform, shift, grid, 2, slice(0, 1)), **EXACT)
    assert (found > 0).all()
    assert (found < 1).all()


@pytest.mark.parametrize(("transform", "shift", "grid"), VIEWS[:4])
def test_equivariant_attention_is_consistent_exactly(transform, shift, grid):
    """Queries and keys that are moved with the patches, those of patches that one view alone shows alike in both."""
    first = random_layers(grid)
    one, other, shared = aligned_patches(grid, transform, shift)
    own = torch.arange(grid[0] * grid[1]) if one is None else one
    second = []
    for layer in first:
        moved = LayerQK(layer.queries.clone(), layer.keys.clone())
        for parts, source in ((moved.queries, layer.queries), (moved.keys, layer.keys)):
            parts[:, :, 2 + other] = source[:, :, 2 + own]
        second.append(moved)
    assert torch.equal(consistency(first, second, (one, other), shared, 2, slice(0, 1)), torch.zeros(2).double())


@pytest.mark.parametrize("bias", [None, (1, 3, 1), (2, 1, 8)])
@pytest.mark.parametrize("transform", ["mirror", "translation"])
def test_gradients_through_both_views(transform, bias):
    grid, shift = (2, 3), (0, 1)
    first, second = (random_layers(grid, bias=bias, count=1, seed=seed) for seed in (1, 2))
    one, other, shared = aligned_patches(grid, transform, shift)

    def terms(*parts):
        layers = LayerQK(*parts[: len(parts) // 2]), LayerQK(*parts[len(parts) // 2 :])
        return consistency(layers[:1], layers[1:], (one, other), shared, 2, slice(0, 2))

    kept = ("queries", "keys") if bias is None else ("queries", "keys", "bias")
    parts = [getattr(layer, name).requires_grad_() for layer in (*first, *second) for name in kept]
    assert torch.autograd.gradcheck(terms, parts, fast_mode=True)


def test_no_map_is_kept_for_the_backward_pass():
    grid = (4, 4)
    first, second = (random_layers(grid, count=3, seed=seed) for seed in (1, 2))
    for layer in (*first, *second):
        layer.queries.requires_grad_()
    _, other, shared = aligned_patches(grid, "mirror", (0, 0))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        terms = consistency(first, second, (None, other), shared, 2, slice(0, 1))
    terms.sum().backward()
    assert all(shape[-2:] != (18, 18) for shape in kept)
    assert first[0].queries.grad.abs().sum() > 0
