"""The second host against its equations, its published sizes and the layouts of its weight files."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from conformer_oracle import Oracle, layout
from safetensors.torch import save_file
from small_conformers import TINY, random_host
from torch.nn import functional as F

from aream.backbones import conformer
from aream.backbones.protocol import BackboneOutput
from aream.cams.affinity import LayerQK
from aream.cams.maps import normalise
from aream.engine.batches import Batch
from aream.errors import ConfigError, DataError
from aream.labels.training_labels import reliable_labels
from aream.methods import aream

HEAD_NAMES = ("conv_cls_head", "trans_cls_head")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]])
    return Batch(images=torch.randn(2, 3, 32, 32, generator=generator), labels=labels, ids=("a", "b"))


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False], ids=["doubled", "once"])
@pytest.mark.parametrize("patch", [16, 8, 4])
@pytest.mark.parametrize("head", ["aream", "transcam"])
def test_forward_is_that_of_the_equations(double, patch, head):
    config = dataclasses.replace(TINY, patch_size=patch, depth=6, channel_ratio=2, cls_double=double, head=head)
    host = random_host(config).double().eval()
    images = torch.randn(2, 3, 2 * 16, 3 * 16, dtype=torch.float64)
    oracle = Oracle(host.state_dict(), depth=6, heads=3, patch=patch, double=double)
    with torch.no_grad():
        output = host(images)
        features, token = oracle(images)
    cam = oracle.conv("conv_cls_head", features, padding=1 if head == "transcam" else 0)
    logits = [cam.mean((2, 3)), oracle.linear("trans_cls_head", token)]
    torch.testing.assert_close(output.cam, cam)
    assert (cam < 0).any()
    for found, expected in zip(output.logits, logits if head == "aream" else [logits[0] + logits[1]], strict=True):
        torch.testing.assert_close(found, expected)
    assert len(output.layers) == 6
    for layer, queries, keys in zip(output.layers, oracle.queries, oracle.keys, strict=True):
        torch.testing.assert_close(layer.queries.transpose(1, 2).flatten(2), queries)
        torch.testing.assert_close(layer.keys.transpose(1, 2).flatten(2), keys)


def test_doubling_the_class_token_matters_from_the_second_block_on():
    """The norm before attention takes a factor out, so the second block's output is the first to differ: by the token
    alone, which the third block's patches then look at."""
    once, doubled = (random_host(dataclasses.replace(TINY, cls_double=double)).eval() for double in (False, True))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, second = once(images), doubled(images)
    difference = [
        (a.queries - b.queries).abs().amax((0, 1, 3)) for a, b in zip(first.layers, second.layers, strict=True)
    ]
    assert difference[0].max() == 0
    assert difference[1].max() < 1e-4
    assert difference[2][0] > 1e-2
    assert difference[2][1:].max() < 1e-4
    assert (first.cam - second.cam).abs().max() > 1e-3


def test_names_shapes_and_counts_are_those_published():
    with torch.device("meta"):
        host = conformer.Conformer(conformer.Config(), classes=20)
    found = {name: tuple(value.shape) for name, value in host.named_parameters() if not name.startswith(HEAD_NAMES)}
    assert found == layout()
    trunk = sum(math.prod(shape) for shape in layout().values())
    both_imagenet_heads = 1000 * (384 + 1) + 1000 * (1024 + 1)
    assert trunk + both_imagenet_heads == 37_673_424
    assert sum(parameter.numel() for parameter in host.parameters()) == trunk + 20 * (384 + 1) + 20 * (1024 + 1)
    with torch.device("meta"):
        transcam = conformer.Conformer(conformer.Config(head="transcam"), classes=20)
    assert sum(p.numel() for p in transcam.parameters()) == trunk + 20 * (384 + 1) + 20 * (9 * 1024 + 1)


def trunk_of(host) -> dict[str, torch.Tensor]:
    return {name: value for name, value in host.state_dict().items() if not name.startswith(HEAD_NAMES)}


def assert_same_trunk(host, donor):
    for name, value in trunk_of(donor).items():
        assert torch.equal(host.state_dict()[name], value), name


@pytest.mark.parametrize("wrapper", [None, "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_imagenet_weights_load_without_their_heads(tmp_path, wrapper, prefix):
    donor = random_host()
    heads = {
        "trans_cls_head.weight": torch.zeros(1000, 12), "trans_cls_head.bias": torch.zeros(1000),
        "conv_cls_head.weight": torch.zeros(1000, 16), "conv_cls_head.bias": torch.zeros(1000),
    }  # fmt: skip
    state = {prefix + name: value for name, value in (trunk_of(donor) | heads).items()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "w.pth")
    host = conformer.build(dataclasses.replace(TINY, weights=str(tmp_path / "w.pth")), 5, 32)
    assert_same_trunk(host, donor)
    assert host.conv_cls_head.weight.shape == (5, 16, 1, 1)
    assert host.conv_cls_head.weight.abs().sum() > 0
    assert host.trans_cls_head.weight.shape == (5, 12)


def test_transcam_weights_load_without_the_output_no_loss_saw(tmp_path):
    donor = random_host(dataclasses.replace(TINY, head="transcam"), classes=5)
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    config = dataclasses.replace(TINY, head="transcam", weights=str(tmp_path / "w.pth"))
    host = conformer.build(config, 4, 32)
    assert_same_trunk(host, donor)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = host.eval()(images), donor.eval()(images)
    torch.testing.assert_close(found.cam, expected.cam[:, 1:])
    torch.testing.assert_close(found.logits[0], expected.logits[0][:, 1:])
    with pytest.raises(DataError, match=r"set it to transcam"):
        conformer.build(dataclasses.replace(config, head="aream"), 4, 32)


def test_aream_weights_load_where_the_class_token_is_not_doubled(tmp_path):
    donor = random_host(dataclasses.replace(TINY, cls_double=False))
    names = {"conv_cls_head": "cnn_head", "trans_cls_head": "att_head"}
    state = {
        ".".join([names.get(name.split(".")[0], name.split(".")[0]), *name.split(".")[1:]]): value
        for name, value in donor.state_dict().items()
    }
    torch.save({"epoch": 3, "model": state}, tmp_path / "w.pth")
    config = dataclasses.replace(TINY, weights=str(tmp_path / "w.pth"), cls_double=False)
    host = conformer.build(config, 4, 32)
    for name, value in donor.state_dict().items():
        assert torch.equal(host.state_dict()[name], value), name
    with pytest.raises(DataError, match=r"cls_double to false"):
        conformer.build(dataclasses.replace(config, cls_double=True), 4, 32)
    with pytest.raises(DataError, match=r"set it to aream"):
        conformer.build(dataclasses.replace(config, head="transcam"), 4, 32)


@pytest.mark.parametrize("head", ["aream", "transcam"])
def test_own_weights_go_round(tmp_path, head):
    config = dataclasses.replace(TINY, head=head)
    donor = random_host(config)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    host = conformer.build(dataclasses.replace(config, weights=str(tmp_path / "w.safetensors")), 4, 32)
    for name, value in donor.state_dict().items():
        assert torch.equal(host.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv_trans_2.squeeze_block.ln.weight"), r"missing: conv_trans_2\.squeeze_block\.ln"),
        (lambda state: state.pop("bn1.running_var"), r"missing: bn1\.running_var \(1\)"),
        (lambda state: state.pop("trans_cls_head.weight"), r"missing: trans_cls_head\.weight \(1\)"),
        (lambda state: state.update(pos_embed=torch.zeros(1, 5, 12)), r"unexpected: pos_embed \(1\)"),
        (lambda state: state.update(cls_token=torch.zeros(1, 2, 12)), r"other shape: cls_token"),
        (lambda state: state.update({"conv_cls_head.weight": torch.zeros(7, 16, 1, 1)}), r"other shape: conv_cls_head"),
    ],
)
def test_partial_loads_are_refused(tmp_path, change, message):
    state = dict(random_host().state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DataError, match=message):
        conformer.build(dataclasses.replace(TINY, weights=str(tmp_path / "w.pth")), 4, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "pretrained"}, "timm has no Conformer"),
        ({"depth": 4}, "depth: need a multiple of 3, got 4"),
        ({"dim": 13}, r"dim: need a multiple of heads \(3\), got 13"),
        ({"base_channels": 3}, "base_channels, channel_ratio: need a product"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"heads": 0}, "heads: need a number"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **changes)


def method(**changes) -> aream.AReAM:
    return aream.build(aream.resolve(aream.Config(layer_index=2, **changes), 3))


SCALES = {"label_scales": (0.5, 1.0, 1.5), "label_flip": True}


def statistics(host) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in host.named_buffers()}


def test_labels_leave_running_statistics_alone_or_update_them_once_a_scale(batch):
    """Authors' code: in train mode, an image and its mirror in one batch at each of three scales."""
    host = random_host().train()
    before = statistics(host)
    method(label_mode="eval", **SCALES).losses_of_parts(host, [batch])
    assert all(torch.equal(value, before[name]) for name, value in statistics(host).items())
    assert host.training
    method(label_mode="train", **SCALES).losses_of_parts(host, [batch])
    after = statistics(host)
    counts = [name for name in after if name.endswith("num_batches_tracked")]
    assert {(int(before[name]), int(after[name])) for name in counts} == {(0, 3)}
    means = [name for name in after if name.endswith("running_mean")]
    assert all(not torch.equal(after[name], before[name]) for name in means)


def test_labels_come_from_the_shallow_layers_at_three_scales_and_both_ways(batch):
    """Unrectified CAMs are summed over scales and mirrors, then rectified and brought to [0, 1]."""
    host, three = random_host().train(), method(alpha_low=0.3, alpha_high=0.5, **SCALES)
    (loss,) = three.losses_of_parts(host, [batch])
    total = torch.zeros(2, 4, 32, 32)
    host.eval()
    for side in (16, 32, 48):
        images = batch.images
        if side != 32:
            images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        for mirrored in (False, True):
            with torch.no_grad():
                output = host(images.flip(-1) if mirrored else images)
            affinity = 0
            for layer in output.layers[:2]:
                logits = layer.queries @ layer.keys.transpose(2, 3) / 2
                affinity = affinity + logits.softmax(-1).mean(1)[:, 1:, 1:] / 2
            cam = torch.einsum("bmn,bcn->bcm", affinity, output.cam.flatten(2)).reshape(output.cam.shape)
            cam = F.interpolate(cam, size=(32, 32), mode="bilinear", align_corners=False)
            total += cam.flip(-1) if mirrored else cam
    expected = reliable_labels(
        normalise(total) * batch.labels[:, :, None, None], batch.labels > 0, batch.rgb(host.mean, host.std),
        alpha_low=0.3, alpha_high=0.5, refiner=three.refiner,
    )  # fmt: skip
    assert len(expected.unique()) > 2
    found = loss.args[1]
    assert (found == expected).float().mean() > 0.999  # a tie may round either way


@pytest.mark.parametrize("head", ["aream", "transcam"])
def test_gradients_reach_the_host_through_affinity_logits_and_classifiers_alone(batch, head):
    host = random_host(dataclasses.replace(TINY, head=head))
    (losses,) = method(**SCALES).losses_of_parts(host, [batch])
    output = host(batch.images)
    assert not host.localise(output).requires_grad
    cut = [LayerQK(layer.queries.detach(), layer.keys.detach()) for layer in output.layers]
    assert not losses(BackboneOutput(output.logits, output.cams, cut)).losses["affinity"].requires_grad
    losses(output).losses["affinity"].backward(retain_graph=True)
    assert host.conv_trans_3.trans_block.attn.qkv.weight.grad.abs().sum() > 0
    assert host.conv1.weight.grad.abs().sum() > 0
    for parameter in (*host.head_parameters(), *host.conv_trans_3.fusion_block.parameters()):
        assert parameter.grad is None or parameter.grad.abs().sum() == 0
    sum(logits.sum() for logits in output.logits).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in host.head_parameters())


def test_drop_path_grows_linearly_from_none():
    host = conformer.build(dataclasses.replace(TINY, depth=6, drop_path=0.5), 2, 32)
    blocks = [host.trans_1, *(host.get_submodule(f"conv_trans_{number}").trans_block for number in range(2, 7))]
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.5 * index / 5 for index in range(6)])
