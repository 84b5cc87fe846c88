"""MoRe as a method: its terms over a training, of parts of a batch and of several ranks."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from small_networks import CONFIG, CPU, sharpen
from thread_ranks import check_ranks_add_up, whole_batch

from aream.backbones import mctformer_v2, vit
from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.errors import ConfigError
from aream.methods import aream, more, plus
from aream.methods.protocol import HostShape, Progress
from aream.train import Training

SIDE, PATCH, CLASSES = 64, 8, 6
LATE, EARLY = Progress(9, 10), Progress(1, 10)
FINER = {"low": 0.3, "high": 0.5, "certain_high": 0.45, "main_low": 0.3, "main_high": 0.5}
"""Thresholds that leave regions of every kind in the maps of small random networks."""

DECODER = {"segment": True, "segment_channels": 8, "segment_start": 0.0}


def host(**changes) -> vit.TimmTransformer:
    torch.manual_seed(0)
    config = vit.Config(
        **{
            "vit": "vit_tiny_patch16_224", "patch_size": PATCH, "dim": 12, "depth": 4, "heads": 2, "drop_path": 0.0,
            "class_tokens": "per_class", "registers": 2, "head_kernel": 1, "head_bias": False, "rectified": False,
            "pooling": "channel_max", **changes,
        }
    )  # fmt: skip
    return vit.build(config, CLASSES, SIDE)


def shape_of(backbone, **changes) -> HostShape:
    return dataclasses.replace(HostShape.of(backbone, CLASSES, SIDE), **changes)


def method_for(backbone, **changes) -> more.More:
    torch.manual_seed(5)
    config = more.Config(**{"label_scales": (1.0, 0.5), **FINER, **changes})
    return more.build(more.resolve(config, backbone.depth), host=shape_of(backbone))


def batch_of(count: int) -> Batch:
    return whole_batch(count, SIDE)


def terms(method, backbone, parts, progress=LATE, **options):
    """Sums over the parts, and the gradients of host and method."""
    sums: dict[str, float] = {}
    for part, losses in zip(parts, method.losses_of_parts(backbone, parts, progress=progress, **options), strict=True):
        found = losses(backbone(part.images)).losses
        sum(found.values()).backward()
        sums = {name: sums.get(name, 0.0) + value.item() for name, value in found.items()}
    return sums, [*backbone.parameters(), *method.network.parameters()]


def told_apart(backbone):
    """The host in double precision, its class tokens and attention unlike each other."""
    sharpen(backbone)
    with torch.no_grad():
        (backbone.vit if hasattr(backbone, "vit") else backbone).cls_token.normal_(std=0.1)
    return backbone.double()


@pytest.mark.parametrize("epoch", [1, 9])
@pytest.mark.parametrize("mode", ["eval", "online"])
@pytest.mark.parametrize(("ranks", "pieces"), [(1, 2), (2, 7), (3, 7)])
def test_parts_and_ranks_add_up_to_the_batch(ranks, pieces, mode, epoch):
    """Before the main CAM makes masks and after that."""
    dataset = shapes.build(shapes.Config(image_size=SIDE, train_images=7, val_images=4))
    config = dataclasses.replace(CONFIG, image_size=SIDE, epochs=10, warmup_epochs=0)

    def prepared() -> Training:
        backbone = told_apart(host())
        made = Training(backbone, method_for(backbone, label_mode=mode, **DECODER), dataset, config, 0, device=CPU)
        made.networks.double().train()
        made.epoch = epoch
        return made

    losses = check_ranks_add_up(prepared, ranks, pieces, rel=1e-7, atol=1e-10, side=SIDE)
    assert all(losses[f"train/{name}_loss"] > 1e-3 for name in more.losses(more.Config(**DECODER)))


@pytest.mark.parametrize("build", ["vit", "mctformer_v2"])
def test_masks_of_the_training_pass_are_those_of_a_pass_for_them(build):
    """Without scales, mirror and drop path there is no difference."""
    backbone = told_apart(host() if build == "vit" else mct())
    batch, found = batch_of(3), []
    for changes in ({"label_mode": "online"}, {"label_scales": (1.0,), "label_flip": False}):
        method = method_for(backbone, **changes)
        method.network.double()
        found.append(terms(method, backbone, [batch])[0])
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def mct():
    torch.manual_seed(0)
    config = mctformer_v2.Config(
        vit="vit_tiny_patch16_224", patch_size=PATCH, dim=12, depth=4, heads=2, drop_path=0.0, class_token_mass="copied"
    )
    return mctformer_v2.build(config, CLASSES, SIDE)


def test_terms_come_in_when_their_time_has_come():
    backbone, batch = told_apart(host()), batch_of(2)
    method = method_for(backbone, patch_start=0.1, region_start=0.15)
    method.network.double()
    started = {}
    for step in (0, 10, 11, 15, 16):
        found, _ = terms(method, backbone, [batch], Progress(step, 100))
        started[step] = set(found)
        assert all(value > 0 for value in found.values())
    always = {"auxiliary", "class_contrast"}
    assert started[0] == started[10] == always
    assert started[11] == started[15] == always | {"patch_contrast"}
    assert started[16] == {*more.losses(method.config)}


def test_terms_say_whether_a_batch_has_what_they_are_made_of():
    """No patch is surely a class's in images that have none."""
    backbone, batch = told_apart(host()), batch_of(2)
    method = method_for(backbone, patch_start=0.0, region_start=0.0)
    method.network.double()

    def said(given):
        (losses,) = method.losses_of_parts(backbone, [given], progress=Progress(40, 100))
        return {name: bool(value) for name, value in losses(backbone(given.images)).applies.items()}

    assert said(batch) == {"patch_contrast": True, "certain": True, "uncertain": True}
    nothing = dataclasses.replace(batch, labels=torch.zeros_like(batch.labels))
    assert said(nothing) == {"patch_contrast": True, "certain": False, "uncertain": True}


def test_the_main_cam_makes_the_masks_after_half_of_the_training():
    backbone, batch = told_apart(host()), batch_of(3)
    method = method_for(backbone)
    method.network.double()
    found = {step: terms(method, backbone, [batch], Progress(step, 100))[0] for step in (50, 51)}
    assert found[50]["certain"] != found[51]["certain"]
    assert found[50]["patch_contrast"] == found[51]["patch_contrast"]
    with torch.no_grad():
        method.network.auxiliary_head.weight.neg_()
    other, _ = terms(method, backbone, [batch], Progress(51, 100))
    assert other["certain"] == found[51]["certain"]
    assert other["patch_contrast"] != found[51]["patch_contrast"]


def test_draws_change_from_step_to_step_and_not_within_one():
    backbone, batch = told_apart(host()), batch_of(3)
    method = method_for(backbone)
    method.network.double()
    found = [terms(method, backbone, [batch], Progress(step, 100))[0]["uncertain"] for step in (60, 60, 61, 62)]
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_padding_is_neither_certain_nor_drawn():
    backbone, batch = told_apart(host()), batch_of(2)
    method = method_for(backbone)
    method.network.double()
    valid = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    valid[:, :, SIDE // 2 :] = False
    (whole, padded) = (
        method._regions(backbone, dataclasses.replace(batch, valid=each), passes(backbone, method), LATE)
        for each in (None, valid)
    )
    assert (padded.certain[:, :, 4:] == 255).all()
    assert torch.equal(padded.certain[:, :, :4], whole.certain[:, :, :4])
    assert torch.equal(padded.pairs[:, :, 4:], torch.full_like(padded.pairs[:, :, 4:], 255))


def passes(backbone, method):
    return functools.partial(method._passes, backbone)


def test_the_graph_learns_from_the_losses_and_so_does_the_host():
    backbone, batch = told_apart(host()), batch_of(2)
    method = method_for(backbone)
    method.network.double()
    terms(method, backbone, [batch])
    for name, parameter in [*method.network.named_parameters(), *backbone.vit.blocks.named_parameters()]:
        assert parameter.grad.abs().max() > 0, name
    assert backbone.head.weight.grad is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_rows": slice(0, 1)}, "got 1 for 6 classes"),
        ({"class_rows": None}, "got 0 for 6 classes"),
        ({"classes": 1, "class_rows": slice(0, 1)}, "needs two classes or more"),
        ({"image_size": 48}, "need a side of 56 pixels, 7 patches of 8; got train.image_size 48"),
    ],
)
def test_a_host_that_it_makes_no_sense_on_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        more.build(more.resolve(more.Config(), 4), host=shape_of(host(), **changes))


def test_a_plan_names_the_hosts_that_it_is_for():
    for name, config in (("mctformer_v2", mctformer_v2.Config()), ("vit", vit.Config(class_tokens="per_class"))):
        more.check_host(more.Config(), name, config)
    with pytest.raises(ConfigError, match=r"method\.name: more needs a host with one class token a class.*got vit"):
        more.check_host(more.Config(), "vit", vit.Config())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"low": 0.8}, "need 0 < low <= high < 1, got 0.8 and 0.7"),
        ({"main_high": 1.0}, "main_low, main_high"),
        ({"uncertain_weight": -1.0}, "uncertain_weight: need a weight >= 0"),
        ({"main_start": 1.5}, r"main_start: need a share of the training in 0\.\.1"),
        ({"temperature": 0.0}, "temperature: need a number > 0"),
        ({"label_scales": ()}, "label_scales"),
    ],
)
def test_settings_out_of_range_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        more.Config(**changes)


def test_the_auxiliary_layer_is_the_third_from_the_end_and_before_the_last():
    assert [more.resolve(more.Config(), depth).auxiliary_layer for depth in (12, 4, 3, 2)] == [9, 1, 0, 0]
    with pytest.raises(ConfigError, match="auxiliary_layer: need a layer before the last of 4, got 3"):
        more.resolve(more.Config(auxiliary_layer=3), 4)
    online, other = (more.resolve(more.Config(label_mode="online", label_flip=flip), 4) for flip in (True, False))
    assert online == other


def test_a_small_grid_does_where_nothing_is_drawn():
    config = more.resolve(more.Config(uncertain_weight=0.0), 4)
    method = more.build(config, host=shape_of(host(), image_size=32))
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    batch = Batch(images, torch.ones(2, CLASSES), ("a", "b"))
    found, _ = terms(method, host(), [batch])
    assert found["uncertain"] == 0
    assert found["certain"] > 0


def test_half_precision_leaves_losses_and_maps_as_they_are():
    """But for the rounding of the tokens."""
    backbone, batch = told_apart(host()).float(), batch_of(2)
    batch = dataclasses.replace(batch, images=batch.images.float(), labels=batch.labels.float())
    method = method_for(backbone)
    whole, _ = terms(method, backbone, [batch])
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = terms(method, backbone, [batch])
        _, maps = method.localise(backbone, batch.images, torch.zeros(2, 1, dtype=torch.int64))
    assert maps.dtype == torch.float32
    for name in ("auxiliary", "class_contrast", "certain"):
        assert found[name] == pytest.approx(whole[name], rel=0.1)


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=SIDE, train_images=24, val_images=8))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "online"])
def test_a_training_lowers_its_losses(dataset, mode):
    config = dataclasses.replace(
        CONFIG, epochs=5, warmup_epochs=1, image_size=SIDE, batch_size=8, lr=2e-3, head_lr_scale=2.0, select="last"
    )
    backbone = host()
    method = method_for(backbone, label_mode=mode)
    rows: list[dict[str, float]] = []
    Training(backbone, method, dataset, config, 0, device=CPU).run(config.epochs, report=rows.append)
    after = rows[1:]  # the warm-up has none of its terms
    for name in more.losses(method.config):
        assert f"train/{name}_loss" not in rows[0]
    for name in ("auxiliary", "class_contrast", "certain"):
        assert after[-1][f"train/{name}_loss"] < after[0][f"train/{name}_loss"], name
    assert rows[-1]["train/classification_loss"] < rows[0]["train/classification_loss"]
    assert 0 < after[-1]["train/uncertain_share"] < 1


def test_aream_beside_it_has_the_terms_of_both():
    """Its maps are then the LAMs, and its losses those that it has alone."""
    parts = (
        Component(name="more", config=more.Config(label_scales=(1.0,), **FINER)),
        Component(name="aream", config=aream.Config()),
    )
    backbone, batch = told_apart(host()), batch_of(2)
    torch.manual_seed(5)
    both = plus.build(plus.resolve(plus.Config(parts=parts), 4), host=shape_of(backbone))
    both.network.double()
    alone = method_for(backbone, label_scales=(1.0,))
    alone.network.double()
    found, _ = terms(both, backbone, [batch])
    expected, _ = terms(alone, backbone, [batch])
    assert {f"more.{name}": value for name, value in expected.items()}.items() <= found.items()
    assert found["aream.affinity"] > 0
    classes = torch.zeros(2, 1, dtype=torch.int64)
    assert torch.equal(
        both.localise(backbone, batch.images, classes)[1], alone.localise(backbone, batch.images, classes)[1]
    )
