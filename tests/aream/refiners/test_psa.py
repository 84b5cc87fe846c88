from __future__ import annotations

import pytest
import torch
from refining import refined
from torch.nn import functional as F

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNetConfig
from aream.config import Component
from aream.errors import ConfigError
from aream.methods import aream
from aream.refiners import psa
from aream.refiners.psa import RandomWalk
from benchmarks.published import psa_walk

CPU = torch.device("cpu")


def refiner(**changes) -> RandomWalk:
    torch.manual_seed(0)
    network = affinity_network.build(AffinityNetConfig(width=2, depths=(1, 1, 1, 1))).eval()
    return RandomWalk(psa.Config(**{"logt": 3, **changes}), network)


def published(walk: RandomWalk, image: torch.Tensor, cams: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Channels (1 + k, h, w), background first, as the authors' inference computes them for one image."""
    h, w = image.shape[1:]
    pad = (0, -w % 8, 0, -h % 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        features = walk.network.features(F.pad((image - mean) / std, pad)[None])
        values = affinity_network.affinities(features)[0]
    full = F.avg_pool2d(F.pad(torch.cat([background[None], cams]), pad), 8)
    walked = psa_walk(values.double(), full.double(), walk.config.beta, walk.config.logt)
    return F.interpolate(walked[None], scale_factor=8, mode="bilinear", align_corners=False)[0, :, :h, :w]


@pytest.mark.parametrize("size", [(80, 88), (75, 93), (20, 17), (1, 1)])
def test_a_constant_background_is_the_threshold(size):
    walk = refiner()
    image, cams = torch.rand(3, *size), torch.rand(2, *size)
    expected = published(walk, image, cams, torch.full(size, 0.45))
    scores = refined(walk, image[None], cams[None])[0]
    clear = (expected[1:].amax(0) - expected[0]).abs() > 1e-5
    assert ((scores.amax(0) > 0.45) == (expected.argmax(0) > 0))[clear].all()
    assert torch.equal(scores.argmax(0)[clear], expected[1:].argmax(0)[clear])


@pytest.mark.parametrize("size", [(80, 88), (75, 93)])
def test_a_power_background_is_the_threshold_one_half(size):
    walk = refiner(background="power", background_alpha=2.0, logt=1)
    image, cams = torch.rand(3, *size), torch.zeros(2, *size)
    cams[:, :48, :48] = torch.rand(2, 48, 48) / 2 + 0.5
    expected = published(walk, image, cams, (1 - cams.amax(0)) ** 2)
    scores = refined(walk, image[None], cams[None])[0]
    clear = (expected[1:].amax(0) - expected[0]).abs() > 1e-5
    background = expected.argmax(0) == 0
    assert background.any()
    assert not background.all()
    assert ((scores.amax(0) <= 0.5) == background)[clear].all()


@pytest.mark.parametrize("background", ["constant", "power"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_stay_between_zero_and_one(background, value):
    scores = refined(refiner(background=background), torch.rand(1, 3, 75, 83), torch.full((1, 2, 75, 83), value))
    torch.testing.assert_close(scores, torch.full((1, 2, 75, 83), value), rtol=0, atol=1e-6)


def test_a_walk_without_weights_is_refused():
    with pytest.raises(ConfigError, match="trained: the walk needs the weights"):
        psa.build(psa.Config(), None, CPU)


def test_no_method_can_have_it():
    with pytest.raises(ConfigError, match=r"refiner: given 'psa'.*labels"):
        aream.Config(refiner=Component(name="psa", config=psa.Config()))
