from __future__ import annotations

import dataclasses
import math

import oracles
import pytest
import torch
from method_contract import check_method
from small_networks import timm_host
from torch.nn import functional as F

from aream import discover, methods
from aream.backbones import mctformer_v2
from aream.backbones.protocol import BackboneOutput
from aream.cams.affinity import LayerQK
from aream.config import Component
from aream.engine.batches import Batch
from aream.engine.ranks import ALONE
from aream.errors import ConfigError
from aream.methods import aream
from aream.methods._label_views import label_views
from aream.refiners import none

DEPTH, SIDE = 3, 32
SIDES = {"more": 64}
"""Of images, for methods that make no sense on a small grid."""


def mct(side: int) -> mctformer_v2.MCTformerV2:
    torch.manual_seed(0)
    config = mctformer_v2.Config(
        vit="vit_tiny_patch16_224",
        patch_size=8,
        dim=12,
        depth=DEPTH,
        heads=3,
        drop_path=0.0,
        class_token_mass="copied",
    )
    return mctformer_v2.build(config, 4, side)


@pytest.fixture
def host():
    return mct(SIDE)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]])
    return Batch(images=torch.randn(2, 3, SIDE, SIDE, generator=generator), labels=labels, ids=("a", "b"))


def losses_of(method, host, batch, output):
    (losses,) = method.losses_of_parts(host, [batch])
    return losses(output).losses


def losses(host, batch, entropies=None, **changes):
    method = aream.build(aream.resolve(aream.Config(**changes), DEPTH), entropies)
    output = host(batch.images)
    return output, losses_of(method, host, batch, output)


def images_for(name: str, batch: Batch) -> Batch:
    side = SIDES.get(name, SIDE)
    return dataclasses.replace(batch, images=torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", discover.names(methods))
def test_contract(name, batch):
    module = discover.load(methods, name)
    check_method(module, module.Config(), mct(SIDES.get(name, SIDE)), images_for(name, batch))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["one", "per_class"])
@pytest.mark.parametrize("name", discover.names(methods))
def test_contract_on_any_transformer(name, tokens, batch):
    module = discover.load(methods, name)
    six = torch.cat([batch.labels, torch.zeros_like(batch.labels[:, :2])], dim=1)
    host, images = timm_host(tokens, SIDES.get(name, SIDE)), images_for(name, dataclasses.replace(batch, labels=six))
    try:
        check_method(module, module.Config(), host, images)
    except ConfigError as refusal:  # a method may say, when it is built, that a host has not what it needs
        if tokens == "per_class":
            raise
        pytest.skip(str(refusal))


def plain_labels(host, batch, config, weights):
    """All classes at image size, the affinity of all fusion layers averaged before it refines, an image at a time."""
    t, size, total = host.prefix_tokens, tuple(batch.images.shape[2:]), 0
    for mirrored in (False, True) if config.label_flip else (False,):
        with torch.no_grad():
            output = host(batch.images.flip(-1) if mirrored else batch.images)
        maps = [oracles.mean_softmax(layer.queries.double(), layer.keys.double(), t) for layer in output.layers]
        cam = output.cam.double() * torch.stack([layer[:, :t] for layer in maps]).mean(0).reshape(output.cam.shape)
        affinity = torch.stack([maps[i][:, t:] * (1 if weights is None else weights[i]) for i in config.fusion_layers])
        cam = torch.einsum("bmn,bcn->bcm", affinity.mean(0), cam.flatten(2)).reshape(cam.shape)
        full = F.interpolate(cam, size=size, mode="bilinear", align_corners=False)
        total = total + (full.flip(-1) if mirrored else full)
    total = total - total.amin(dim=(2, 3), keepdim=True)
    cams = total / (total.amax(dim=(2, 3), keepdim=True) + 1e-6) * batch.labels[:, :, None, None]
    refiner = none.build(none.Config())
    return torch.stack(
        [
            oracles.reliable_labels(
                cam, present > 0, image.double(), config.alpha_low, config.alpha_high,
                lambda image, scores: refiner.apply(refiner.kernel(image), scores),
            )
            for cam, present, image in zip(cams, batch.labels, batch.rgb(host.mean, host.std), strict=True)
        ]
    )  # fmt: skip


def plain_entropies(host, batch):
    """Eqs. 7 and 8, a layer and an image at a time: bits of the softmax of the host's CAM refined by one layer."""
    with torch.no_grad():
        output = host(batch.images)
    t = host.prefix_tokens
    maps = [oracles.mean_softmax(layer.queries.double(), layer.keys.double(), t) for layer in output.layers]
    cam = output.cam.double()
    found = []
    for layer in maps:
        bits = 0.0
        for image, present in enumerate(batch.labels > 0):
            refined = sum(layer[image, t:] @ cam[image, c].flatten() for c in present.nonzero()[:, 0])
            shares = [math.exp(value) for value in refined.tolist()]
            bits -= sum(share / sum(shares) * math.log2(share / sum(shares)) for share in shares)
        found.append(bits / len(batch.labels))
    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture
def telling(host):
    """A host whose attention differs from layer to layer and row to row."""
    with torch.no_grad():
        for index, block in enumerate(host.blocks):
            block.attn.qkv.weight.mul_(20 * (index + 1))
    return host


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (0.5, 1.25, 1.0)])
@pytest.mark.parametrize("flip", [False, True])
def test_online_weights_are_of_the_images_as_they_are(telling, batch, flip, scales):
    with torch.no_grad():
        telling.head.weight.mul_(50)  # else the maps are so even that rounding decides between layers
    method = aream.build(aream.resolve(aream.Config(weights="entropy_online", label_scales=scales, label_flip=flip), 3))
    entropies = plain_entropies(telling, batch)
    expected = 1 - (entropies - entropies.min()) / (entropies.max() - entropies.min())
    found = method._weights(telling, [batch], ALONE, lambda part: label_views(telling, part, method.config))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)


def test_online_labels_have_neither_scales_nor_a_mirror():
    """Trainings that are the same are one stage."""
    one, other = (
        aream.resolve(aream.Config(label_mode="online", label_scales=scales, label_flip=flip), DEPTH)
        for scales, flip in (((1.0,), False), ((0.5, 1.5), True))
    )
    assert one == other


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("entropies", [None, (3.0, 1.0, 2.0)])
def test_the_loss_is_that_of_labels_made_in_the_plain_form(telling, batch, flip, entropies):
    host = telling
    config = aream.resolve(
        aream.Config(
            label_flip=flip, fusion_layers=(0, 1), supervised_layers="all", alpha_low=0.3, alpha_high=0.5,
            weights="uniform" if entropies is None else "entropy_offline",
            refiner=Component(name="none", config=none.Config()),
        ),
        DEPTH,
    )  # fmt: skip
    entropy = None if entropies is None else torch.tensor(entropies)
    output = host(batch.images)
    found = losses_of(aream.build(config, entropy), host, batch, output)["affinity"]
    weights = None if entropy is None else 1 - (entropy - 1) / 2
    labels = plain_labels(host, batch, config, weights)
    assert {0, 255} < set(labels.unique().tolist())
    grid = labels[:, ::8, ::8].flatten(1)
    pairs = (grid[:, :, None] == grid[:, None, :]).long()
    pairs[(grid == 255)[:, :, None] | (grid == 255)[:, None, :]] = 255
    t = host.prefix_tokens
    logits = [(a.queries @ a.keys.transpose(2, 3) / 2)[:, :, t:, t:] for a in output.layers]  # 2: root of 4 channels
    expected = oracles.affinity_loss(logits, pairs, None if weights is None else 1 - weights, "mean")
    torch.testing.assert_close(found, 0.1 * expected, rtol=1e-5, atol=1e-7)


def test_layers_that_entropy_does_not_tell_apart_count_alike(host, batch):
    resolved = [aream.resolve(aream.Config(weights=weights), DEPTH) for weights in ("uniform", "entropy_offline")]
    output = host(batch.images)
    uniform, equal = (
        losses_of(aream.build(config, torch.full((DEPTH,), 2.5)), host, batch, output)["affinity"]
        for config in resolved
    )
    assert equal > 0
    torch.testing.assert_close(equal, uniform, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["eval", "train", "online"])
def test_gradients_reach_the_host_through_the_affinity_logits_alone(host, batch, mode):
    """Cutting the supervised queries and keys off leaves nothing to differentiate: labels pass no gradient."""
    method = aream.build(aream.resolve(aream.Config(label_mode=mode), DEPTH))
    output = host(batch.images)
    cut = BackboneOutput(
        logits=output.logits,
        cams=output.cams,
        layers=[LayerQK(layer.queries.detach(), layer.keys.detach()) for layer in output.layers],
    )
    assert not losses_of(method, host, batch, cut)["affinity"].requires_grad
    losses_of(method, host, batch, output)["affinity"].backward()
    assert host.blocks[method.supervised[-1]].attn.qkv.weight.grad.abs().sum() > 0
    assert host.head.weight.grad is None


def test_the_label_pass_leaves_the_random_stream_and_the_mode_alone(host, batch):
    host.train()
    before = torch.random.get_rng_state()
    losses(host, batch, label_mode="eval")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert host.training


def test_an_image_without_classes_gives_no_foreground_and_no_nan(host, batch):
    empty = Batch(images=batch.images, labels=torch.zeros_like(batch.labels), ids=batch.ids)
    _, terms = losses(host, empty)
    assert terms["affinity"].isfinite()


def test_the_weight_scales_the_loss(host, batch):
    _, one = losses(host, batch, affinity_weight=0.1)
    _, two = losses(host, batch, affinity_weight=0.2)
    torch.testing.assert_close(two["affinity"], 2 * one["affinity"])


def test_offline_weights_need_entropies_and_change_the_loss(host, batch):
    with pytest.raises(ConfigError, match="entropies"):
        losses(host, batch, weights="entropy_offline")
    # A deep layer as certain as the surest of all (w = 1) is held to nothing: its loss weight 1 - w is 0.
    _, none = losses(host, batch, torch.tensor([3.0, 2.0, 1.0]), weights="entropy_offline", supervised_layers=(2,))
    _, most = losses(host, batch, torch.tensor([1.0, 2.0, 3.0]), weights="entropy_offline", supervised_layers=(2,))
    _, plain = losses(host, batch, supervised_layers=(2,))
    values = sorted(term["affinity"].item() for term in (none, most))
    assert values[0] == pytest.approx(0.0, abs=1e-7)
    assert values[1] > 0
    assert plain["affinity"] > 0
