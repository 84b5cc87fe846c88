from __future__ import annotations

import oracles
import pytest
import torch
from torch.nn import functional as F

from aream.engine.losses import affinity_loss, classification_loss


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_affinity_loss_and_gradient_are_those_of_the_per_head_form(reduce, weighted):
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(2, 3, 5, 5, generator=generator).double().requires_grad_() for _ in range(3)]
    labels = torch.randint(0, 3, (2, 5, 5), generator=generator)
    labels[labels == 2] = 255
    weights = torch.tensor([0.1, 0.0, 1.0]).double() if weighted else None
    expected = oracles.affinity_loss(heads, labels, weights, reduce)
    expected_gradients = torch.autograd.grad(expected, heads)
    found = affinity_loss([layer.mean(dim=1) for layer in heads], labels, weights, reduce)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    for gradient, wanted in zip(torch.autograd.grad(found, heads), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-7)


def test_all_ignored_is_exactly_zero_with_zero_gradient():
    logits = torch.randn(2, 4, 4, requires_grad=True)
    loss = affinity_loss([logits], torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_side_contributes_nothing(value):
    loss = affinity_loss([torch.zeros(1, 3, 3)], torch.full((1, 3, 3), value))
    assert loss.item() == pytest.approx(0.5 * 0.5 * 9 / 10)


def test_classification_loss_sums_the_heads():
    heads, target = (torch.randn(3, 4), torch.randn(3, 4)), torch.randint(0, 2, (3, 4)).float()
    expected = sum(F.binary_cross_entropy_with_logits(head, target) for head in heads)
    torch.testing.assert_close(classification_loss(heads, target), expected)
