"""ACR as a method: the authors' loss and gradients through our host, parts, ranks, and what is refused."""

from __future__ import annotations

import dataclasses

import acr_tiny
import pytest
import torch
from acr_tiny import EXACT
from small_networks import CONFIG, CPU, train
from small_transformers import built as transformer
from small_transformers import small
from test_acr_localisation import CLASS_TOKEN, HOSTS
from thread_ranks import check_ranks_add_up
from torch.nn import functional as F

from aream.backbones import mctformer_v2, vit
from aream.cams.affinity import attention
from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.engine.losses import classification_loss
from aream.errors import ConfigError
from aream.methods import acr
from aream.methods.protocol import HostShape
from aream.train import Training

VIEWS = [{}, {"view": "rotation"}, {"view": "translation", "shift": (1, -1)}]


def method(depth, **changes):
    return acr.build(acr.resolve(acr.Config(**changes), depth))


def tiny_host(drop_path: float = 0.0) -> vit.TimmTransformer:
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "dim": 12, "depth": 3, "heads": 2, "drop_path": drop_path, **CLASS_TOKEN}
    return vit.build(vit.Config(vit="vit_tiny_patch16_224", **sizes), 6, 32)


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


@pytest.mark.parametrize("view", ["mirror", "rotation"])
@pytest.mark.parametrize("name", ["vit", "mctformer_plus"])
def test_patches_that_are_all_alike_are_consistent(name, view):
    """Without positions, and of images of one colour."""
    host = HOSTS[name]()
    with torch.no_grad():
        for key, parameter in host.named_parameters():
            if "pos" in key:
                parameter.zero_()
    batch = Batch(torch.ones(2, 3, 32, 32), torch.ones(2, 4), ("a", "b"))
    (losses,) = method(host.depth, view=view).losses_of_parts(host, [batch])
    terms = losses(host(batch.images)).losses
    assert terms["activation"] < 1e-4
    assert terms["affinity"] < 1e-4
    assert terms["second_view"] > 0


@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_ranks_add_up_to_those_of_the_batch(size):
    dataset = shapes.build(shapes.Config(image_size=32, train_images=7, val_images=4))

    def prepared() -> Training:
        training = Training(tiny_host().double(), method(3), dataset, CONFIG, 0, device=CPU)
        training.backbone.train()
        training.epoch = 1
        return training

    check_ranks_add_up(prepared, size, 7, rel=1e-6, atol=1e-8)


@pytest.mark.parametrize("changes", [{}, {"view": "translation", "shift": (1, 0)}])
def test_a_training_reports_its_terms(changes):
    """On drawn images, with drop path; warm-up first."""
    dataset = shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))
    host = tiny_host(drop_path=0.1)
    _, rows = train(dataset, host, method=method(3, **changes))
    first, *_, last = rows
    assert "train/second_view_loss" not in first
    for name in ("second_view", "activation", "affinity"):
        assert 0 < last[f"train/{name}_loss"] < float("inf")
    assert last["train/method_gradient"] > 0


def test_the_second_view_s_classification_is_not_held_against_the_host_s_own():
    dataset = shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))
    _, rows = train(dataset, tiny_host(), method=method(3, activation_weight=0.0, affinity_weight=0.0))
    assert rows[-1]["train/second_view_loss"] > 0
    assert rows[-1]["train/method_gradient"] == 0


def test_layers_are_named_and_a_shift_without_effect_is_the_default():
    resolved = acr.resolve(acr.Config(layers="deep", layer_index=2, shift=(3, 0)), 4)
    assert resolved == acr.resolve(acr.Config(layers=(2, 3)), 4)
    assert method(4, layers=(1, 3)).supervised_layers() == (1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_weight": -1.0}, "activation_weight: need a weight >= 0, got -1.0"),
        ({"affinity_weight": float("nan")}, "affinity_weight: need a weight >= 0, got nan"),
        ({"shift": (0, 0)}, "shift: need patches to move by"),
        ({"localisation_layers": 0}, "localisation_layers: need one or more, got 0"),
        ({"localisation_layers": 5}, r"localisation_layers: need at most 4 \(the backbone's depth\), got 5"),
        ({"layers": (4,)}, "layers: need one or more different layers in 0..3"),
    ],
)
def test_settings_without_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        acr.resolve(acr.Config(**changes), 4)


def test_hosts_that_it_makes_no_sense_on_are_refused():
    with pytest.raises(ConfigError, match=r"needs backbone\.pooling: class_token, .*; got average"):
        acr.check_host(acr.Config(), "vit", vit.Config())
    acr.check_host(acr.Config(localisation="host"), "vit", vit.Config())
    acr.check_host(acr.Config(), "vit", vit.Config(**CLASS_TOKEN))
    acr.check_host(acr.Config(), "mctformer_v2", mctformer_v2.Config())
    shape = HostShape(dim=8, classes=3, depth=4, prefix_tokens=0, class_rows=None, patch_size=8, image_size=32)
    with pytest.raises(ConfigError, match="acr needs a class token"):
        acr.build(acr.resolve(acr.Config(), 4), host=shape)
    with_token = dataclasses.replace(shape, prefix_tokens=1, class_rows=slice(0, 1))
    moved = acr.resolve(acr.Config(view="translation", shift=(0, 4)), 4)
    with pytest.raises(ConfigError, match="shift: need less than the 4 x 4 patches"):
        acr.build(moved, host=with_token)
    acr.build(moved, host=dataclasses.replace(with_token, image_size=64))


def test_a_class_token_is_read_by_a_head_without_neighbours():
    with pytest.raises(ConfigError, match="pooling: class_token needs head_kernel: 1"):
        vit.Config(pooling="class_token")
    with pytest.raises(ConfigError, match="pooling: class_token needs a class token, which vit_base_patch16_siglip"):
        vit.shape(small("vit_base_patch16_siglip_224", **CLASS_TOKEN))


def test_a_head_reads_the_class_token_after_the_last_norm_where_it_is_told_to():
    host = transformer(small("vit_tiny_patch16_224", patch_size=8, depth=3, auxiliary_layer=1, **CLASS_TOKEN), 32)
    batch = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        output = host(batch)
        _, (middle,) = host.vit.forward_intermediates(batch, [1], output_fmt="NLC", return_prefix_tokens=True)
        last = host.vit.forward_features(batch)[:, 0]
        auxiliary = host.vit.norm(middle[1][:, 0])
    for logits, token, head in zip(output.logits, (last, auxiliary), (host.head, host.auxiliary_head), strict=True):
        torch.testing.assert_close(logits, F.linear(token, head.weight[..., 0, 0], head.bias))
