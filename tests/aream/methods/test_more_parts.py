"""The parts of MoRe against the numbers of the authors' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_numbers import close, golden
from torch.autograd import gradcheck

from aream.methods._more_gcr import GraphCategoryRepresentation
from aream.methods._more_losses import (
    certain_loss,
    class_contrast,
    patch_contrast,
    patch_pairs,
    uncertain_loss,
)
from aream.methods._more_masks import class_mask, combined_maps
from aream.methods._more_sampling import candidates, codes, drawn


def tokens_of(maps):
    """(b, n, d) of (b, d, h, w)."""
    return maps.flatten(2).transpose(1, 2)


def representation(numbers, product):
    state = {name.removeprefix("w_"): value for name, value in numbers.items() if name.startswith("w_")}
    network = GraphCategoryRepresentation(len(state["norm.bias"]), product).double()
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("name", ["more_gcr_c20", "more_gcr_c5"])
@pytest.mark.parametrize(("product", "key"), [("official", "out"), ("dot", "out_dot")])
def test_class_tokens_are_those_of_the_authors_graph(name, product, key):
    numbers = golden(name)
    close(representation(numbers, product)(numbers["cls"], numbers["patches"]), numbers[key])


@pytest.mark.parametrize("name", ["more_gcr_c20", "more_gcr_c5"])
def test_gradients_are_those_of_the_authors_graph(name):
    numbers = golden(name)
    network = representation(numbers, "official")
    classes, patches = (numbers[key].requires_grad_() for key in ("cls", "patches"))
    (network(classes, patches) * numbers["probe"]).sum().backward()
    close(classes.grad, numbers["grad_cls"])
    assert patches.grad is None
    named = dict(network.named_parameters())
    assert {f"g_{name}" for name in named} == {name for name in numbers if name.startswith("g_")}
    for name, parameter in named.items():
        close(parameter.grad, numbers[f"g_{name}"])


@pytest.mark.parametrize("product", ["official", "dot"])
def test_the_graph_is_differentiable_in_all_its_parameters(product):
    torch.manual_seed(0)
    network = GraphCategoryRepresentation(5, product).double()
    classes, patches = (torch.randn(2, count, 5, dtype=torch.float64, requires_grad=True) for count in (4, 6))
    names = [name for name, _ in network.named_parameters()]

    def run(classes, *parameters):
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (classes, patches))

    assert gradcheck(run, (classes, *network.parameters()))


CRE = ["more_cre_tau0.5_scale1", "more_cre_tau0.1_scale0.3", "more_cre_tau0.1_scale30"]


@pytest.mark.parametrize("name", CRE)
def test_the_loss_of_certain_patches_is_the_authors_by_a_log_softmax(name):
    numbers = golden(name)
    classes = numbers["cls"].requires_grad_()
    patches = tokens_of(numbers["patches"]).requires_grad_()
    loss = certain_loss(
        classes, patches, numbers["mask"].flatten(1), numbers["labels"] > 0, numbers["tau"].item()
    ).mean()
    close(loss, numbers["loss_log_softmax"])
    if numbers["loss"].isfinite():
        torch.testing.assert_close(loss, numbers["loss"], rtol=2e-6, atol=0)
    loss.backward()
    close(classes.grad, numbers["grad_cls_log_softmax"])
    assert patches.grad is None


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_loss_of_certain_patches_is_finite_in_single_precision(scale):
    numbers = golden("more_cre_tau0.1_scale30")
    classes = numbers["cls"].float().requires_grad_()
    patches = tokens_of(numbers["patches"]).float() * scale
    loss = certain_loss(classes, patches, numbers["mask"].flatten(1), numbers["labels"] > 0, 0.1).mean()
    loss.backward()
    assert loss.isfinite()
    assert classes.grad.isfinite().all()


def test_the_loss_of_uncertain_patches_is_the_authors_for_the_ones_that_they_drew():
    numbers = golden("more_ure")
    maps, classes = (numbers[key].requires_grad_() for key in ("patches", "cls"))
    picked = numbers["picked"]
    total = uncertain_loss(classes, tokens_of(maps), picked, numbers["labels"] > 0)
    loss = total / (picked >= 0).sum()
    close(loss, numbers["loss"])
    loss.backward()
    close(maps.grad, numbers["grad_patches"])
    assert classes.grad is None


def test_uncertain_patches_are_drawn_by_the_authors_rule():
    """What they drew of these masks is a draw by this rule, as what this rule draws is."""
    numbers = golden("more_ure")
    for mask, roi, picked in zip(numbers["mask"], numbers["roi"], numbers["picked"], strict=True):
        of = codes(mask.numpy())
        assert np.array_equal(of, roi.numpy())
        found = set(candidates(of).tolist())
        assert found == {
            i * 14 + j
            for i in range(8)
            for j in range(8)
            if of[i + 3, j + 3] == 1 and of[i : i + 6, j : j + 6].sum() >= 43.2
        }
        foreground = {i * 14 + j for i in range(8) for j in range(8) if of[i + 3, j + 3] == 2}
        for taken in (set(picked[picked >= 0].tolist()), set(drawn(of, "image", 0).tolist())):
            if len(found) > 8:
                assert len(taken) == 8
                assert taken <= found
                continue
            more = (8 - len(found)) // 4
            assert found <= taken
            assert len(taken) <= len(found) + more
            if len(foreground) >= more:
                assert taken - found <= foreground
    assert (numbers["picked"] >= 0).sum(dim=1).tolist() == [len(drawn(codes(m.numpy()))) for m in numbers["mask"]]


def test_a_draw_depends_on_its_seed_alone():
    of = codes(golden("more_ure")["mask"][0].numpy())
    first = drawn(of, "image", 3)
    np.random.default_rng(0).random(5)
    assert np.array_equal(drawn(of, "image", 3), first)
    assert not np.array_equal(drawn(of, "image", 4), first)


def test_class_tokens_are_told_apart_as_the_authors_do():
    numbers = golden("more_mct")
    classes = numbers["cls"].requires_grad_()
    loss = class_contrast(classes).mean()
    close(loss, numbers["loss"])
    loss.backward()
    close(classes.grad, numbers["grad_cls"])


def test_equal_class_tokens_cost_the_logarithm_of_their_number():
    loss = class_contrast(torch.ones(2, 20, 8, dtype=torch.float64))
    close(loss, torch.full_like(loss, np.log(20)))


def test_patches_are_held_together_and_apart_as_the_authors_do():
    numbers = golden("more_ptc")
    pairs = patch_pairs(numbers["labels"])
    assert torch.equal(pairs.long(), numbers["aff_mask"])
    maps = numbers["features"].requires_grad_()
    loss = patch_contrast(tokens_of(maps), pairs)
    close(loss, numbers["loss"])
    loss.backward()
    close(maps.grad, numbers["grad"])


@pytest.mark.parametrize(("key", "low", "high"), [("aux_07_025", 0.25, 0.7), ("main_06_035", 0.35, 0.6)])
def test_masks_are_those_of_the_authors_at_ties_too(key, low, high):
    numbers = golden("more_labels")
    present = numbers["labels"] > 0
    classes = torch.arange(6).expand(2, -1)
    assert torch.equal(class_mask(numbers["cam"], classes, present, low=low, high=high), numbers[key])


def test_of_one_threshold_there_is_nothing_uncertain():
    numbers = golden("more_labels")
    classes = torch.arange(6).expand(2, -1)
    found = class_mask(numbers["cam"], classes, numbers["labels"] > 0, low=0.5, high=0.5)
    assert torch.equal(found, numbers["bkg_05"])


def test_the_larger_of_two_views_counts_and_scales_are_summed():
    maps, mirror = torch.tensor([[[[-1.0, 2.0, 0.0]]]]), torch.tensor([[[[1.0, -2.0, 3.0]]]])
    twice = combined_maps([[maps, mirror], [maps]], (1, 3))
    expected = torch.tensor([[[[3.0, 4.0, 1.0]]]]) - 1
    torch.testing.assert_close(twice, expected / (3 + 1e-5))


def example(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize(
    ("loss", "count"),
    [
        (class_contrast, 4),
        (lambda x: certain_loss(x, X, MASK.flatten(1), PRESENT, 0.5), 4),
        (lambda x: uncertain_loss(X[:, :4], x, PICKED, PRESENT), 9),
        (lambda x: patch_contrast(x, patch_pairs(MASK)), 9),
    ],
)
def test_every_loss_is_differentiable(loss, count):
    assert gradcheck(loss, (example(2, count, 5),))


X = example(2, 9, 5).detach() + 0.1
MASK = torch.tensor([[[0, 1, 1], [255, 3, 0], [0, 0, 3]], [[2, 2, 255], [0, 255, 0], [0, 2, 2]]])
PRESENT = torch.tensor([[True, False, True, False], [False, True, False, False]])
PICKED = torch.tensor([[0, 5, -1], [8, -1, -1]])
