"""Several methods at once."""

from __future__ import annotations

import dataclasses

import added_methods
import pytest
import torch
from method_contract import check_method
from small_networks import CONFIG, CPU, host, timm_host
from thread_ranks import check_ranks_add_up, whole_batch

from aream import discover, methods
from aream.config import Component
from aream.datasets import shapes
from aream.errors import ConfigError
from aream.methods import aream, mctformer, plus
from aream.methods._label_views import label_views
from aream.methods.protocol import HostShape, host_maps
from aream.train import Training, seed_everything
from orchestrator.spec.build import build as build_config
from orchestrator.spec.build import strict

SETTINGS = {"alpha_low": 0.3, "alpha_high": 0.45, "affinity_weight": 10.0}
SHAPE = HostShape(dim=12, classes=6, depth=3, prefix_tokens=6, class_rows=slice(0, 6), patch_size=8, image_size=32)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    added_methods.add_to(monkeypatch)


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=14, val_images=7))


def probe() -> Component:
    return Component(name="token_probe", config=discover.load(methods, "token_probe").Config())


def affinity(**changes) -> Component:
    return Component(name="aream", config=aream.Config(**SETTINGS, **changes))


def plain() -> Component:
    return Component(name="mctformer", config=mctformer.Config())


def built(*parts: Component, shape=SHAPE, seed=0):
    torch.manual_seed(seed)
    return plus.build(plus.resolve(plus.Config(parts=parts), 3), host=shape)


def float_batch(count: int = 2):
    batch = whole_batch(count)
    return dataclasses.replace(batch, images=batch.images.float(), labels=batch.labels.float())


@pytest.mark.parametrize("network", [host, timm_host])
@pytest.mark.parametrize("first", ["aream", "token_probe"])
def test_contract(network, first):
    parts = sorted((affinity(), probe()), key=lambda part: part.name != first)
    check_method(plus, plus.Config(parts=tuple(parts)), network(), float_batch())


def test_aream_alone_is_aream(dataset):
    rows = []
    for method, prefix in ((built(affinity(affinity_reach="deep")), "aream."), (None, "")):
        seed_everything(0)
        alone = method or aream.build(aream.resolve(affinity(affinity_reach="deep").config, 3))
        training = Training(host(), alone, dataset, CONFIG, 0, device=CPU)
        own = []
        training.run(report=own.append)
        rows.append([{name.replace(prefix, ""): value for name, value in row.items()} for row in own])
        if prefix:
            assert {"train/aream.affinity_loss", "train/aream.uncertain_share"} <= set(own[1])
    assert rows[0] == rows[1]


def test_the_reach_of_one_part_cuts_no_other(dataset):
    """Gradients of both are those of each alone: AReAM's end above the shallow layers, the probe's go through all."""

    def gradients(*parts: Component) -> dict[str, torch.Tensor]:
        method = built(*parts)
        for part in method.parts.values():
            if isinstance(part, aream.AReAM):
                part.localise_with = host_maps
        training = Training(host(), method, dataset, CONFIG, 0, device=CPU)
        training.epoch = 1
        training.networks.double().train()
        training.gradients(whole_batch(6), 6, "here")
        zeros = torch.zeros((), dtype=torch.float64)
        return {name: zeros if each.grad is None else each.grad for name, each in training.networks.named_parameters()}

    deep = affinity(affinity_reach="deep")
    both, one, other, none = (gradients(*parts) for parts in ((deep, probe()), (deep,), (probe(),), (plain(),)))
    first = "model.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(one[first], none[first])
    assert (other[first] - none[first]).abs().max() > 1e-6
    assert (one["model.blocks.2.attn.qkv.weight"] - none["model.blocks.2.attn.qkv.weight"]).abs().max() > 1e-6
    for name, found in both.items():
        expected = other[name] if name not in one else one[name] + other[name] - none[name]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_labels_are_made_from_the_maps_of_the_part_that_finds_some():
    both = built(affinity(), probe())
    backbone, batch = host(), float_batch()
    assert both.localise == both.parts["token_probe"].localise
    asked = []

    def localise(*given):
        asked.append(given[2].tolist())
        return both.localise(*given)

    both.parts["aream"].localise_with = localise
    both.losses_of_parts(backbone, [batch])
    assert len(asked) == 2  # the images and their mirrors
    assert not hasattr(built(affinity()), "localise")
    config = both.parts["aream"].config
    labels = [
        method.parts["aream"]._labels(
            backbone, batch, label_views(backbone, batch, config, method.parts["aream"].localise_with), None
        )
        for method in (built(affinity(), probe()), built(affinity()))
    ]
    assert not torch.equal(*labels)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "pieces"), [(1, 2), (2, 7)])
@pytest.mark.filterwarnings("ignore:.*")
def test_gradients_of_ranks_and_pieces_add_up(dataset, size, pieces):
    def prepared() -> Training:
        training = Training(host(), built(affinity(), probe()), dataset, CONFIG, 0, device=CPU)
        training.networks.double().train()
        training.epoch = 1
        return training

    check_ranks_add_up(prepared, size, pieces, rel=1e-5, atol=1e-5)


def test_weights_of_its_networks_have_their_parts_name():
    assert set(built(affinity(), probe()).network.state_dict()) == {
        "token_probe.linear.weight", "token_probe.linear.bias", "token_probe.steps",
    }  # fmt: skip
    assert built(affinity()).network is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["aream", {"name": "aream", "alpha_low": 0.2}], "parts: need one or more different methods, got"),
        ([], "parts: need one or more different methods"),
        (["plus"], r"parts\[0\]: given plus; need methods that are no sums"),
        ([{"name": "aream", "alpa_low": 0.2}], r"parts\[0\]\.alpa_low: unknown key \(did you mean alpha_low"),
        (["arem"], r"parts\[0\]: .*it has: .*aream"),
    ],
)
def test_what_it_refuses(parts, message):
    with pytest.raises(ConfigError, match=message):
        strict(lambda report: build_config(plus.Config, {"parts": parts}, "", report))


def test_layers_of_its_parts_are_named_once():
    config = plus.resolve(plus.Config(parts=(affinity(), plain()), layer_index=1), 3)
    assert [part.name for part in config.parts] == ["aream", "mean_affinity"]
    assert config.parts[0].config.supervised_layers == (1, 2)
    with pytest.raises(ConfigError, match=r"aream\.supervised_layers: need one or more different layers in 0\.\.2"):
        plus.resolve(plus.Config(parts=(affinity(supervised_layers=(7,)),)), 3)


def test_entropies_reach_the_part_that_weighs_layers_by_them():
    config = plus.resolve(plus.Config(parts=(plain(), affinity(weights="entropy_offline", entropy_map="localised"))), 3)
    assert plus.needs_entropy(config)
    assert (config.entropy_map, config.entropy_input, config.entropy_prob) == ("localised", "raw", "softmax")
    method = plus.build(config, torch.tensor([3.0, 1.0, 2.0]))
    torch.testing.assert_close(method.parts["aream"].weights, torch.tensor([0.0, 1.0, 0.5]))
    with pytest.raises(ConfigError, match=r"aream\.weights: entropy_offline needs"):
        plus.build(config)
