from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aream.errors import ConfigError
from aream.networks.resnet38 import ResNet38

TINY = {"width": 2, "depths": (2, 1, 1, 2)}


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    built = ResNet38(**TINY)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return built


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of PSA's ``res38_cls.pth`` without its classifier, written out from the paper's table."""
    shapes: dict[str, tuple[int, ...]] = {"conv1a.weight": (64, 3, 3, 3)}

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    plain = {2: (64, 128, 128, 3), 3: (128, 256, 256, 3), 4: (256, 512, 512, 6), 5: (512, 512, 1024, 3)}
    for stage, (before, middle, after, blocks) in plain.items():
        for index in range(blocks):
            name, enters = (f"b{stage}", before) if index == 0 else (f"b{stage}_{index}", after)
            norm(f"{name}.bn_branch2a", enters)
            norm(f"{name}.bn_branch2b1", middle)
            shapes[f"{name}.conv_branch2a.weight"] = (middle, enters, 3, 3)
            shapes[f"{name}.conv_branch2b1.weight"] = (after, middle, 3, 3)
            if index == 0:
                shapes[f"{name}.conv_branch1.weight"] = (after, enters, 1, 1)
    for name, before, quarter, half, after in (("b6", 1024, 512, 1024, 2048), ("b7", 2048, 1024, 2048, 4096)):
        norm(f"{name}.bn_branch2a", before)
        norm(f"{name}.bn_branch2b1", quarter)
        norm(f"{name}.bn_branch2b2", half)
        shapes[f"{name}.conv_branch2a.weight"] = (quarter, before, 1, 1)
        shapes[f"{name}.conv_branch2b1.weight"] = (half, quarter, 3, 3)
        shapes[f"{name}.conv_branch2b2.weight"] = (after, half, 1, 1)
        shapes[f"{name}.conv_branch1.weight"] = (after, before, 1, 1)
    norm("bn7", 4096)
    return shapes


def test_names_and_shapes_are_those_of_published_weights():
    with torch.device("meta"):
        full = ResNet38()
        found = full(torch.empty(1, 3, 321, 321))
    assert {name: tuple(value.shape) for name, value in full.state_dict().items()} == published_shapes()
    assert full.channels == (512, 1024, 4096)
    sides = [tuple(part.shape) for part in (found.conv4, found.conv5, found.conv6)]
    assert sides == [(1, channels, 41, 41) for channels in full.channels]


def reference(state: dict[str, torch.Tensor], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The trunk of ``TINY`` as a list of convolutions, (stride, dilation of the first, of the second)."""

    def rectified(name, x):
        norm = {part: state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + 1e-5)
        return torch.clamp((x - norm["running_mean"][:, None, None]) * scale[:, None, None]
                           + norm["bias"][:, None, None], min=0)  # fmt: skip

    def convolved(name, x, stride=1, dilation=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, dilation=dilation, padding=dilation * (weight.shape[-1] // 2))

    x, features = convolved("conv1a", images), {}
    blocks = {"b2": (2, 1, 1), "b2_1": (1, 1, 1), "b3": (2, 1, 1), "b4": (2, 1, 1), "b5": (1, 1, 2), "b5_1": (1, 2, 2)}
    for name, (stride, first, second) in blocks.items():
        entering = features[name] = rectified(f"{name}.bn_branch2a", x)
        has_own = f"{name}.conv_branch1.weight" in state
        shortcut = convolved(f"{name}.conv_branch1", entering, stride) if has_own else x
        branch = convolved(f"{name}.conv_branch2a", entering, stride, first)
        x = shortcut + convolved(f"{name}.conv_branch2b1", rectified(f"{name}.bn_branch2b1", branch), 1, second)
    for name in ("b6", "b7"):
        entering = features[name] = rectified(f"{name}.bn_branch2a", x)
        branch = convolved(f"{name}.conv_branch2a", entering)
        branch = convolved(f"{name}.conv_branch2b1", rectified(f"{name}.bn_branch2b1", branch), 1, 4)
        branch = convolved(f"{name}.conv_branch2b2", rectified(f"{name}.bn_branch2b2", branch))
        x = convolved(f"{name}.conv_branch1", entering) + branch
    return {"conv4": features["b5"], "conv5": features["b6"], "conv6": rectified("bn7", x)}


def test_features_are_those_of_the_written_out_network(trunk):
    trunk.eval().double()
    images = torch.randn(2, 3, 37, 50, dtype=torch.float64)
    found = trunk(images)
    for name, expected in reference(trunk.state_dict(), images).items():
        torch.testing.assert_close(getattr(found, name), expected)


@pytest.mark.parametrize("side", [1, 7, 8, 9, 64, 65])
def test_a_feature_stands_for_eight_pixels(trunk, side):
    found = trunk.eval()(torch.randn(1, 3, side, 2 * side))
    grid = (int(np.ceil(side / 8)), int(np.ceil(2 * side / 8)))
    assert [part.shape for part in (found.conv4, found.conv5, found.conv6)] == [
        (1, channels, *grid) for channels in (16, 32, 128)
    ]


def test_frozen_parts_stay_and_the_rest_learns(trunk):
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    trunk.train()
    sum(part.square().sum() for part in vars(trunk(torch.randn(2, 3, 16, 16))).values()).backward()
    torch.optim.SGD(trunk.parameters(), lr=0.1, weight_decay=0.1).step()
    changed = {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if ".conv_" in name}


def test_batch_norm_learns_where_it_is_not_frozen():
    torch.manual_seed(0)
    trunk = ResNet38(**TINY, frozen=("conv1a", "b2", "b2_1"), frozen_batch_norm=False).train()
    before = trunk.bn7.running_mean.clone()
    trunk(torch.randn(2, 3, 16, 16))
    assert not torch.equal(trunk.bn7.running_mean, before)
    still = {name.split(".")[0] for name, value in trunk.named_parameters() if not value.requires_grad}
    assert still == {"conv1a", "b2", "b2_1"}


def test_channels_are_dropped_in_training_only(trunk):
    images = torch.randn(1, 3, 16, 16)
    trunk.train()
    assert not torch.equal(trunk(images).conv6, trunk(images).conv6)
    assert torch.equal(trunk(images).conv5, trunk(images).conv5)
    trunk.eval()
    assert torch.equal(trunk(images).conv6, trunk(images).conv6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width: need a number of channels in 1..512, got 0"),
        ({"depths": (3, 3, 6)}, r"depths: need four numbers .* got \[3, 3, 6\]"),
        ({"depths": (3, 0, 6, 3)}, "depths: need four numbers"),
        ({"width": 1, "frozen": ("b9",)}, "frozen: there is no module b9; there are conv1a, b2, b2_1"),
    ],
)
def test_impossible_trunks_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ResNet38(**arguments)
