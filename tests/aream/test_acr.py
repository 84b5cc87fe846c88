"""ACR as a method: the authors' loss and gradients through our host, parts, ranks, and what is refused."""

from __future__ import annotations

import dataclasses

import acr_tiny
import pytest
import torch
from acr_tiny import EXACT
from small_mctformers import built as mctformer
from small_networks import CPU, train
from small_transformers import built as transformer
from small_transformers import small

from aream.backbones import mctformer_v2, vit
from aream.cams.affinity import attention
from aream.engine.batches import Batch
from aream.engine.losses import classification_loss
from aream.errors import ConfigError
from aream.methods import acr
from aream.methods.protocol import HostShape

CLASS_TOKEN = {"head_kernel": 1, "pooling": "class_token"}
VIEWS = [{}, {"view": "rotation"}, {"view": "translation", "shift": (1, -1)}]


def method(depth, **changes):
    return acr.build(acr.resolve(acr.Config(**changes), depth))


def terms_of(host, parts, **changes):
    """Host's own classification loss and the method's terms, over all parts, their gradients left on the host."""
    sums = {}
    for part, losses in zip(parts, method(host.depth, **changes).losses_of_parts(host, parts), strict=True):
        output = host(part.images)
        share = len(part.ids) / len(part.all_ids)
        terms = {"classification": share * classification_loss(output.logits, part.labels), **losses(output).losses}
        torch.stack([*terms.values()]).sum().backward()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach()
    return sums


def test_loss_and_gradients_are_the_authors():
    numbers = acr_tiny.stored()
    host, batch = acr_tiny.host(numbers), acr_tiny.batch(numbers)
    for view, images in ((1, batch.images), (2, batch.images.flip(-1))):
        output = host(images)
        torch.testing.assert_close(output.logits[0], numbers[f"logits_{view}"], **EXACT)
        maps = torch.stack([attention(layer, slice(None), slice(None)) for layer in output.layers], dim=1)
        torch.testing.assert_close(maps, numbers[f"attention_{view}"], **EXACT)
    terms = terms_of(host, [batch])
    torch.testing.assert_close(sum(terms.values()), numbers["loss"], **EXACT)
    for name in ("activation", "affinity"):
        torch.testing.assert_close(terms[name], 125 * numbers[f"loss_{name}"], **EXACT)
    for block, name in ((0, "first"), (-1, "last")):
        found = host.vit.blocks[block].attn.qkv.weight.grad
        torch.testing.assert_close(found, numbers[f"grad_{name}_qkv"], **EXACT)
    assert host.vit.norm.weight.grad is None  # the head reads the class token before it


@pytest.mark.parametrize("changes", VIEWS)
def test_parts_add_up_to_the_batch(changes):
    numbers = acr_tiny.stored()
    batch = acr_tiny.batch(numbers)
    three = Batch(
        torch.cat([batch.images, batch.images[:1] + 0.3]), torch.cat([batch.labels, batch.labels[1:]]), ("a", "b", "c")
    )
    found = []
    for size in (3, 2, 1):
        host = acr_tiny.host(numbers)
        terms = terms_of(host, three.split(size), **changes)
        found.append((terms, [part.grad for part in host.parameters() if part.grad is not None]))
    (whole, gradients), *others = found
    assert len(gradients) > 40
    for terms, parts in others:
        torch.testing.assert_close(terms, whole, **EXACT)
        torch.testing.assert_close(parts, gradients, **EXACT)


def test_gradient_goes_through_both_views():
    """Cutting the first view off leaves the second one's gradient, and another one."""
    numbers = acr_tiny.stored()
    host, batch = acr_tiny.host(numbers), acr_tiny.batch(numbers)
    (losses,) = method(host.depth).losses_of_parts(host, [batch])
    output = host(batch.images)
    weight = host.vit.blocks[0].attn.qkv.weight
    with torch.no_grad():
        cut = host(batch.images)
    both, one = (torch.autograd.grad(losses(each).losses["affinity"], weight)[0] for each in (output, cut))
    assert one.abs().sum() > 0
    assert (both - one).abs().sum() > 0.1 * one.abs().sum()


@pytest.mark.parametrize("changes", VIEWS)
@pytest.mark.parametrize("host", [lambda: transformer(small("vit_tiny_patch16_224", patch_size=8, **CLASS_TOKEN), 32),
                                  lambda: mctformer("plus", classes=4)])  # fmt: skip
def test_a_host_that_sees_patches_one_by_one_is_consistent(host, changes):
    """Without positions, and images of one colour, all patches and views are alike."""
    built = host()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "pos" in name:
                parameter.zero_()
    batch = Batch(torch.ones(2, 3, 32, 32), torch.ones(2, 4), ("a", "b"))
    (losses,) = method(built.depth, **({} if changes.get("view") == "translation" else changes)).losses_of_parts(
        built, [batch]
    )
    terms = losses(built(batch.images)).losses
    assert terms["activation"] < 1e-5
    assert terms["affinity"] < 1e-5
    assert terms["second_view"] > 0
