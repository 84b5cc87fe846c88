from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
import torch
from small_networks import CPU, labels_of
from small_segmenters import SMALL, build
from torch.nn import functional as F

from aream import discover, segmenters
from aream.datasets import shapes
from aream.engine.checkpoints import Checkpoints
from aream.errors import ConfigError, DataError, Interrupted
from aream.networks.resnet38 import ResNet38
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.train import SegmentationRun
from aream.segmenters import deeplab, deeplab_largefov, deeplab_v3
from aream.segmenters.protocol import Segmenter

NAMES = discover.names(segmenters)
HEADS = ("mctformer", "transcam")
LARGEFOV = SMALL["deeplab_largefov"]


def torchvision():
    """Imported after aream, which makes it importable beside a CPU build of torch."""
    return importlib.import_module("torchvision")


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=3))


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    """Of every segmenter there is."""

    def test_logits_have_the_size_of_the_images(self, name):
        built = build(name, 5).eval()
        assert isinstance(built, Segmenter)
        for size in ((33, 47), (1, 1), (16, 3)):
            images = torch.randn(2, 3, *size)
            logits = built(images)
            assert logits.shape == (2, 5, *size)
            assert torch.isfinite(logits).all()
            torch.testing.assert_close(built(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)

    def test_everything_that_learns_has_a_gradient_and_the_head_is_a_part_of_it(self, name):
        built = build(name, 5).train()
        built(torch.randn(2, 3, 32, 32)).square().mean().backward()
        learning = {key: value for key, value in built.named_parameters() if value.requires_grad}
        assert [key for key, value in learning.items() if value.grad is None] == []
        heads = {id(parameter) for parameter in built.head_parameters()}
        inside = {key for key, value in learning.items() if id(value) in heads}
        assert len(inside) == len(heads)
        assert 0 < len(inside) < len(learning)

    def test_its_state_is_all_there_is_to_it(self, name):
        first, second = build(name, 5), build(name, 5)
        with torch.no_grad():
            for value in first.state_dict().values():
                if value.is_floating_point():
                    value.add_(0.01 * torch.rand(value.shape))
        second.load_state_dict(first.state_dict())
        images = torch.randn(1, 3, 32, 32)
        assert torch.equal(first.eval()(images), second.eval()(images))

    def test_weights_are_fingerprinted_by_their_content(self, name, tmp_path):
        module = discover.load(segmenters, name)
        config = SMALL.get(name) or module.Config()
        assert module.fingerprint(config) == "random"
        for file, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
            (tmp_path / file).write_bytes(content)
        prints = [
            module.fingerprint(dataclasses.replace(config, weights=str(tmp_path / f)))
            for f in ("a.pth", "b.pth", "c.pth")
        ]
        assert prints[0] == prints[1] != prints[2]
        for made in (module.fingerprint, lambda config: module.build(config, 5, 32)):
            with pytest.raises(DataError, match=r"gone\.pth: no such weight file"):
                made(dataclasses.replace(config, weights=str(tmp_path / "gone.pth")))

    @pytest.mark.slow
    def test_a_training_that_was_stopped_goes_on_bit_for_bit(self, name, dataset):
        config = SegmentationTraining(
            iterations=5, batch_size=2, crop=32, lr=0.01, hsv_jitter=10, scale_per="batch", bias_lr_scale=2.0
        )

        def run(stops, restored=None):
            built = build(name, 7)
            torch.manual_seed(1)
            training = SegmentationRun(built, dataset, labels_of(dataset), config, 0, device=CPU)
            if restored is not None:
                training.restore(restored)
            states = []
            checkpoints = Checkpoints(save=lambda state: states.append(state), stop=lambda: next(stops))
            try:
                training.run(report=lambda row: None, checkpoints=checkpoints)
            except Interrupted:
                return states[-1]
            return training.history, {key: value.clone() for key, value in built.state_dict().items()}

        whole_rows, whole = run(iter([False] * 9))
        # Asked after the steps 1, 2 and 3, after their epoch, and after step 4.
        for goes_on, place in ((2, (0, 3)), (4, (1, 1))):
            middle = run(iter([False] * goes_on + [True]))
            assert (middle["epoch"], middle["step"]) == place
            rows, found = run(iter([False] * 9), middle)
            assert rows == whole_rows
            assert [key for key in whole if not torch.equal(whole[key], found[key])] == []


def dilated(weight, bias, features, rate):
    """A 3x3 convolution of this dilation, tap by tap, zero beyond the map."""
    out = np.zeros((len(weight), *features.shape[1:]))
    height, width = features.shape[1:]
    for o in range(len(weight)):
        for y in range(height):
            for x in range(width):
                total = bias[o]
                for i in range(len(features)):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            at = (y + dy * rate, x + dx * rate)
                            if 0 <= at[0] < height and 0 <= at[1] < width:
                                total += weight[o, i, dy + 1, dx + 1] * features[(i, *at)]
                out[o, y, x] = total
    return out


def normalised(norm, features):
    values = [
        part.detach().numpy()[:, None, None] for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    ]
    mean, variance, scale, shift = values
    return (features - mean) / np.sqrt(variance + 1e-5) * scale + shift


def numbers(module):
    bias = np.zeros(len(module.weight)) if module.bias is None else module.bias.detach().numpy()
    return module.weight.detach().numpy(), bias


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_those_of_the_table(head):
    torch.manual_seed(0)
    built = deeplab_largefov.build(dataclasses.replace(LARGEFOV, head=head), 3, 32).eval().double()
    layers = list(built.head)
    for layer in layers:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    features = torch.randn(1, built.trunk.channels[-1], 4, 6, dtype=torch.float64)
    first = dilated(*numbers(layers[0]), features[0].numpy(), 2)
    if head == "mctformer":
        expected = dilated(*numbers(layers[2]), np.maximum(0, first), 2)
    else:
        expected = np.maximum(0, normalised(layers[1], first))
        weight, bias = numbers(layers[3])
        mixed = np.einsum("oi,ihw->ohw", weight[..., 0, 0], expected) + bias[:, None, None]
        expected = np.maximum(0, normalised(layers[4], mixed))
        weight, bias = numbers(layers[7])
        expected = np.einsum("oi,ihw->ohw", weight[..., 0, 0], expected) + bias[:, None, None]
    np.testing.assert_allclose(built.head(features)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("head", "reach"), [("mctformer", (-24, -12, 0, 12, 24)), ("transcam", (-12, 0, 12))])
def test_a_logit_sees_far_features(head, reach):
    built = deeplab_largefov.build(dataclasses.replace(LARGEFOV, head=head, rate=12, channels=2), 2, 32).eval()
    for parameter in built.head.parameters():
        torch.nn.init.ones_(parameter)
    features = torch.ones(1, built.trunk.channels[-1], 61, 61, requires_grad=True)
    built.head(features)[0, 1, 30, 30].backward()
    seen = {(int(y) - 30, int(x) - 30) for y, x in features.grad[0].abs().sum(dim=0).nonzero()}
    assert seen == {(dy, dx) for dy in reach for dx in reach}


def enlarged(logits, size, corners):
    """Bilinear enlargement, pixel by pixel: pixel centres on pixel centres, or corner pixels on corner pixels."""

    def source(at, before, after):
        if corners:
            return at * (before - 1) / (after - 1) if after > 1 else 0.0
        return min(max((at + 0.5) * before / after - 0.5, 0.0), before - 1)

    out = np.zeros((len(logits), *size))
    for y in range(size[0]):
        for x in range(size[1]):
            sy, sx = source(y, logits.shape[1], size[0]), source(x, logits.shape[2], size[1])
            for cy in range(logits.shape[1]):
                for cx in range(logits.shape[2]):
                    share = max(0.0, 1 - abs(sy - cy)) * max(0.0, 1 - abs(sx - cx))
                    out[:, y, x] += share * logits[:, cy, cx]
    return out


@pytest.mark.parametrize("head", HEADS)
def test_logits_are_enlarged_to_the_image(head):
    torch.manual_seed(0)
    built = deeplab_largefov.build(dataclasses.replace(LARGEFOV, head=head), 3, 32).eval().double()
    images = torch.randn(1, 3, 17, 26, dtype=torch.float64)
    with torch.no_grad():
        small = built.head(built.trunk(images).conv6)[0].numpy()
        found = built(images)[0].numpy()
    assert small.shape == (3, 3, 4)
    np.testing.assert_allclose(found, enlarged(small, (17, 26), head == "transcam"), atol=1e-10)


def test_batch_norm_of_the_trunk_is_frozen_where_there_are_weights(tmp_path):
    torch.manual_seed(1)
    trunk = ResNet38(width=2, depths=(2, 1, 1, 2))
    torch.save(trunk.state_dict(), tmp_path / "res38_cls.pth")
    config = dataclasses.replace(LARGEFOV, weights=str(tmp_path / "res38_cls.pth"))
    built = deeplab_largefov.build(config, 3, 32).train()
    for name, value in trunk.state_dict().items():
        assert torch.equal(built.trunk.state_dict()[name], value)
    learning = {name for name, value in built.trunk.named_parameters() if value.requires_grad}
    assert learning
    assert all(".conv_" in name for name in learning)
    free = deeplab_largefov.build(dataclasses.replace(config, frozen=(), frozen_batch_norm=False), 3, 32)
    assert all(value.requires_grad for value in free.parameters())
    assert deeplab_largefov.build(LARGEFOV, 3, 32).trunk.bn7.weight.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet50", "resnet101", "mobilenet_v3_large"])
def test_published_files_name_what_the_encoder_has(encoder):
    with torch.device("meta"):
        built = deeplab_v3.build(deeplab_v3.Config(encoder=encoder), 21, 32)
        classifier = getattr(torchvision().models, encoder)(weights=None)
    published = {
        name.removeprefix("features."): value.shape
        for name, value in classifier.state_dict().items()
        if not name.startswith(("fc.", "classifier."))
    }
    assert {name: value.shape for name, value in built.backbone.state_dict().items()} == published


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["imagenet", "segmenter"])
def test_encoder_weights_of_deeplab_v3_load_whole_or_not_at_all(tmp_path, whole):
    torch.manual_seed(2)
    if whole:
        source = torchvision().models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=True
        )
        state = source.state_dict()
    else:
        state = torchvision().models.mobilenet_v3_large(weights=None).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    built = deeplab_v3.build(deeplab_v3.Config(encoder="mobilenet_v3_large", weights=str(path)), 7, 32)
    prefix = "backbone." if whole else "features."
    for name, value in built.backbone.state_dict().items():
        assert torch.equal(value, state[prefix + name])
    del state[f"{prefix}0.0.weight"]
    torch.save(state, path)
    with pytest.raises(DataError, match=r"weights\.pth: does not fit IntermediateLayerGetter: missing: 0\.0\.weight"):
        deeplab_v3.build(deeplab_v3.Config(encoder="mobilenet_v3_large", weights=str(path)), 7, 32)


def test_deeplab_v3_refuses_to_learn_from_one_image():
    with pytest.raises(ConfigError, match="raise batch_size"):
        build("deeplab_v3", 5).train()(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0}, "rate: need a dilation in 1..512, got 0"),
        ({"channels": 0}, "channels: need a number in 1..4096, got 0"),
        ({"dropout": 1.0}, "dropout: need 0 <= dropout < 1, got 1.0"),
        ({"batch_norm_momentum": 0.0}, "batch_norm_momentum: need a share in"),
        ({"weights": "pretrained"}, "weights: timm has none of ResNet-38; need a file, or null"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        deeplab_largefov.Config(**change)


def test_an_image_of_one_class_can_be_learnt():
    """A few steps on one image with one object end at its labels."""
    torch.manual_seed(0)
    built = deeplab_largefov.build(dataclasses.replace(LARGEFOV, width=4, channels=16), 2, 32).train()
    images = torch.zeros(2, 3, 32, 32)
    images[:, :, 8:24, 8:24] = 2
    labels = (images[:, 0] > 0).long()
    optimizer = torch.optim.Adam([parameter for parameter in built.parameters() if parameter.requires_grad], lr=0.01)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(built(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(21, 40), (32, 47), (48, 32)])
def test_logits_of_a_vit_lie_where_its_patches_do(size):
    """It pads the image on the right and below, here as by hand; what it says of that is cut off."""
    torch.manual_seed(3)
    config = deeplab.Config(encoder="vit_tiny_patch16_224", rates=(1,), channels=8)
    built = deeplab.build(config, 4, 32).eval()
    images = torch.randn(2, 3, *size)
    whole = F.pad(images, (0, -size[1] % 16, 0, -size[0] % 16))
    with torch.no_grad():
        torch.testing.assert_close(built(images), built(whole)[:, :, : size[0], : size[1]])
