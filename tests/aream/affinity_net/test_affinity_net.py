from __future__ import annotations

import numpy as np
import psa_oracles
import pytest
import torch

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNet, AffinityNetConfig, affinities
from aream.affinity_net.pairs import OFFSETS
from aream.errors import ConfigError, DataError

TINY = AffinityNetConfig(width=2, depths=(3, 1, 1, 1))


def test_affinities_against_a_loop_over_pairs():
    features = np.random.default_rng(0).normal(size=(5, 7, 11))
    expected = psa_oracles.affinities(features)
    found = affinities(torch.tensor(features)[None])[0]
    assert found.numel() == len(expected) == 34 * 3 * 3
    for k, (dy, dx) in enumerate(OFFSETS):
        for i in range(3):
            for j in range(3):
                value = expected[(i, j + 4), (i + dy, j + 4 + dx)]
                assert found[k, i, j].item() == pytest.approx(value, abs=1e-12)


@pytest.mark.slow
def test_gradient_of_the_affinities():
    features = torch.randn(2, 3, 6, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(affinities, features)


def test_alike_features_have_affinity_one_and_no_gradient():
    features = torch.ones(1, 3, 5, 9, requires_grad=True)
    found = affinities(features)
    found.sum().backward()
    assert found.eq(1).all()
    assert features.grad.eq(0).all()


@pytest.mark.parametrize(("size", "pairs"), [((5, 9), 1), ((4, 30), 0), ((30, 8), 0), ((1, 1), 0), ((3, 2), 0)])
def test_a_grid_smaller_than_the_radius_has_no_pair(size, pairs):
    features = torch.randn(1, 2, *size, requires_grad=True)
    found = affinities(features)
    assert found[0, 0].numel() == pairs
    found.sum().backward()
    assert torch.isfinite(features.grad).all()


def test_names_and_shapes_are_those_of_the_published_file():
    with torch.device("meta"):
        state = AffinityNet(AffinityNetConfig()).state_dict()
    expected = {
        "f8_3.weight": (64, 512, 1, 1), "f8_4.weight": (128, 1024, 1, 1), "f8_5.weight": (256, 4096, 1, 1),
        "f9.weight": (448, 448, 1, 1), "conv1a.weight": (64, 3, 3, 3), "b7.conv_branch2b2.weight": (4096, 2048, 1, 1),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert not [name for name in state if name.startswith("fc8")]


@pytest.fixture
def network() -> AffinityNet:
    torch.manual_seed(0)
    return affinity_network.build(TINY)


def test_features_come_one_in_eight_pixels(network):
    assert network.eval().features(torch.randn(2, 3, 72, 80)).shape == (2, 2 + 4 + 8, 9, 10)


def test_a_classifier_starts_the_trunk_and_a_trained_network_is_taken_whole(network, tmp_path):
    state = network.state_dict() | {"fc8.weight": torch.zeros(20, 128, 1, 1)}
    torch.save(state, tmp_path / "affinity.pth")
    torch.save({name: value for name, value in state.items() if not name.startswith("f8_")}, tmp_path / "trunk.pth")
    found = affinity_network.trained(TINY, str(tmp_path / "affinity.pth"))
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    started = AffinityNetConfig(width=2, depths=(3, 1, 1, 1), weights=str(tmp_path / "trunk.pth"))
    assert torch.equal(affinity_network.build(started).b4.conv_branch2a.weight, network.b4.conv_branch2a.weight)
    with pytest.raises(DataError, match=r"missing: f8_3.weight, f8_4.weight, f8_5.weight"):
        affinity_network.trained(TINY, str(tmp_path / "trunk.pth"))
    del state["b4.conv_branch2a.weight"]
    torch.save(state, tmp_path / "trunk.pth")
    with pytest.raises(DataError, match=r"missing: b4.conv_branch2a.weight"):
        affinity_network.build(started)


@pytest.mark.parametrize(("frozen", "learning"), [(None, True), (True, False), (False, True)])
def test_what_is_frozen(frozen, learning):
    network = AffinityNet(AffinityNetConfig(width=2, depths=(3, 1, 1, 1), frozen=frozen)).train()
    parts = [network.conv1a.weight, network.b2_2.conv_branch2a.weight, network.bn7.weight]
    assert {part.requires_grad for part in parts} == {learning}
    assert network.bn7.training is learning
    assert network.b3.conv_branch2a.weight.requires_grad
    assert network.f9.weight.requires_grad


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("depths", (3, 3, 0, 3))])
def test_impossible_sizes_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        AffinityNetConfig(**{field: value})
