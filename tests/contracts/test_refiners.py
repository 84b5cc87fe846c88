"""What every refiner promises, over all that there are."""

from __future__ import annotations

import pytest
import torch
from refining import refined
from safetensors.torch import save_file
from small_networks import CPU
from small_trials import PSA

from aream import discover, refiners
from aream.affinity_net.network import AffinityNet
from aream.config import Component
from aream.refiners.protocol import Refiner, network_of

NETWORKS = {"affinity": (PSA, lambda: AffinityNet(PSA.network))}
"""Settings of a small one that needs a trained network, and the network."""


@pytest.fixture(params=discover.names(refiners))
def refiner(request, tmp_path) -> Refiner:
    module = discover.load(refiners, request.param)
    network = network_of(Component(name=request.param, config=module.Config()))
    if network is None:
        return module.build(module.Config())
    assert network in NETWORKS, f"say in NETWORKS how a small network of {request.param} is made"
    config, make = NETWORKS[network]
    torch.manual_seed(0)
    save_file(make().state_dict(), tmp_path / "network.safetensors")
    return module.build(config, str(tmp_path / "network.safetensors"), CPU)


def a_case(height: int = 24, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, height, width, generator=generator)
    scores = torch.rand(2, 3, height, width, generator=generator).softmax(dim=1)
    return images, scores


def test_refined_scores_are_scores(refiner):
    images, scores = a_case()
    assert isinstance(refiner, Refiner)
    found = refined(refiner, images, scores.requires_grad_())
    assert found.shape == scores.shape
    assert not found.requires_grad
    assert torch.isfinite(found).all()
    assert found.min() > -1e-5
    assert found.max() < 1 + 1e-4


def test_an_image_is_refined_alike_alone_and_in_a_batch(refiner):
    images, scores = a_case()
    together = refined(refiner, images, scores)
    alone = torch.cat([refined(refiner, images[i : i + 1], scores[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_one_kernel_serves_any_scores(refiner):
    images, scores = a_case()
    kernel = refiner.kernel(images)
    first, again = refiner.apply(kernel, scores), refiner.apply(kernel, scores)
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    torch.testing.assert_close(first, refiner.apply(refiner.kernel(images), scores), atol=0, rtol=0)


def test_a_position_that_is_sure_of_its_class_stays_so_where_all_agree(refiner):
    images, scores = a_case()
    sure = torch.zeros_like(scores)
    sure[:, 1] = 1
    torch.testing.assert_close(refined(refiner, images, sure).argmax(dim=1), torch.ones(2, 24, 32, dtype=torch.int64))
