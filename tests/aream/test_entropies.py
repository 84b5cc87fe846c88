"""Entropies of a host's layers against the authors' order of operations, one image and one patch at a time."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from timm.layers.attention import Attention
from torch.nn import functional as F

from aream.backbones import conformer, mctformer_plus, mctformer_v1, mctformer_v2, vit
from aream.cams.maps import normalise
from aream.entropies import entropy_cam, layer_entropies
from aream.methods import aream

VIT = {
    "vit": "vit_tiny_patch16_224",
    "patch_size": 8,
    "dim": 12,
    "depth": 3,
    "heads": 2,
    "drop_path": 0.0,
}
PUBLISHED = {**VIT, "class_token_mass": "copied"}  # no bias: the oracle reads queries and keys alone
TINY = {"patch_size": 8, "dim": 12, "depth": 3, "heads": 2, "base_channels": 4, "channel_ratio": 1}
HOSTS = {
    "mctformer_v1": lambda: mctformer_v1.build(mctformer_v1.Config(**PUBLISHED), 6, 32),
    "mctformer_v2": lambda: mctformer_v2.build(mctformer_v2.Config(**PUBLISHED), 6, 32),
    "mctformer_plus": lambda: mctformer_plus.build(mctformer_plus.Config(**PUBLISHED), 6, 32),
    "conformer": lambda: conformer.build(conformer.Config(**TINY), 6, 32),
    "vit": lambda: vit.build(vit.Config(**VIT, localisation="fused"), 6, 32),
}
PRESENT = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]) > 0


@pytest.fixture(params=HOSTS)
def host(request):
    torch.manual_seed(3)
    built = HOSTS[request.param]().eval()
    for module in built.modules():
        if isinstance(module, Attention):
            module.qkv.weight.data *= 40  # attention far from uniform
    for name in ("head", "conv_cls_head"):
        if hasattr(built, name):
            getattr(built, name).weight.data *= 30  # a CAM as sharp as a trained one's
    return built


@pytest.fixture
def passed(host):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    heard = []
    if hasattr(host, "conv_cls_head"):
        host.conv_cls_head.register_forward_hook(lambda module, given, made: heard.append(made))
    with torch.no_grad():
        output = host(images)
        if isinstance(host, conformer.Conformer):
            (cam,) = heard
        elif isinstance(host, mctformer_v1.MCTformerV1):
            t = host.prefix_tokens
            attention = [oracles.mean_softmax(layer.queries, layer.keys, t)[:, :t] for layer in output.layers]
            cam = torch.stack(attention[-3:]).sum(0).reshape(3, 6, 4, 4)
        elif isinstance(host, vit.TimmTransformer):
            features = host.vit.forward_features(images)[:, 1:].transpose(1, 2).reshape(3, 12, 4, 4)
            cam = F.relu(F.conv2d(features, host.head.weight, host.head.bias, padding=1))
        else:
            features = host.encode(images).features
            cam = F.relu(F.conv2d(features, host.head.weight, host.head.bias, padding=1))
    return host, output, cam


def by_hand(output, t: int, cam) -> list[float]:
    """Softmax, mean over heads, patch block; refine the present classes' maps, sum them, softmax, entropy in bits."""
    means = []
    for layer in output.layers:
        affinity = oracles.mean_softmax(layer.queries, layer.keys, t)[:, t:].double()
        total = 0.0
        for image in range(len(cam)):
            refined = [0.0] * affinity.shape[1]
            for c in torch.nonzero(PRESENT[image]).flatten().tolist():
                values = cam[image, c].double().flatten().tolist()
                for m, row in enumerate(affinity[image].tolist()):
                    refined[m] += sum(weight * value for weight, value in zip(row, values, strict=True))
            peak = max(refined)
            weights = [math.exp(value - peak) for value in refined]
            total -= sum(w / sum(weights) * math.log2(w / sum(weights)) for w in weights if w > 0)
        means.append(total / len(cam))
    return means


def test_the_hosts_own_cam_is_what_layers_are_weighed_by(passed):
    host, output, cam = passed
    found = layer_entropies(host, output, PRESENT)
    assert found.tolist() == pytest.approx(by_hand(output, host.prefix_tokens, cam), abs=2e-4)
    torch.testing.assert_close(entropy_cam(host, output, "cam"), cam, rtol=1e-4, atol=1e-5)


def test_the_localised_map_is_an_option(passed):
    host, output, _ = passed
    localised = host.localise(output)
    found = layer_entropies(host, output, PRESENT, entropy_map="localised")
    assert found.tolist() == pytest.approx(by_hand(output, host.prefix_tokens, localised), abs=2e-4)
    scaled = layer_entropies(host, output, PRESENT, "minmax", "softmax", "localised")
    assert scaled.tolist() == pytest.approx(by_hand(output, host.prefix_tokens, normalise(localised)), abs=2e-4)


def test_on_mctformer_the_two_maps_weigh_layers_differently():
    torch.manual_seed(3)
    config = aream.Config()
    assert config.entropy_map == "cam"
    weighed = [aream.Config(weights="entropy_online", entropy_map=name) for name in ("cam", "localised")]
    resolved = [aream.resolve(config, 3) for config in weighed]
    assert resolved[0] != resolved[1]


@pytest.mark.parametrize("unlike", [{"entropy_map": "localised"}, {"entropy_input": "minmax"}, {"entropy_prob": "sum"}])
@pytest.mark.parametrize("weights", ["uniform", "entropy_offline", "entropy_online"])
def test_entropies_that_nothing_is_weighed_by_make_no_other_training(weights, unlike):
    """Each would be computed by itself, with the same bytes."""
    plain, changed = (aream.resolve(aream.Config(weights=weights, **more), 3) for more in ({}, unlike))
    assert (plain == changed) == (weights == "uniform")
