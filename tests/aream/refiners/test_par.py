from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from refining import refined

from aream.refiners import par
from benchmarks.published import par_convolutions


def test_kernel_and_iterations_against_a_pixel_loop():
    config = par.Config(dilations=(1, 2), iterations=2)
    rng = np.random.default_rng(0)
    image, scores = rng.random((3, 5, 6)), rng.random((2, 5, 6))
    expected = oracles.par(image, scores, config.dilations, config.sharpness, config.position_weight, 2)
    refiner = par.build(config)
    found = refiner.apply(refiner.kernel(torch.tensor(image)[None]), torch.tensor(scores)[None])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(40, 33), (7, 60), (1, 9)])
def test_equals_the_one_hot_convolutions(shape):
    config = par.Config()
    generator = torch.Generator().manual_seed(0)
    images, scores = (
        torch.rand(2, 3, *shape, generator=generator),
        torch.rand(2, 4, *shape, generator=generator),
    )
    refiner = par.build(config)
    expected = par_convolutions(images.double(), scores.double(), config)
    found = refiner.apply(refiner.kernel(images), scores)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_a_flat_image_spreads_evenly_and_stays_finite():
    refiner = par.build(par.Config())
    found = refined(refiner, torch.full((1, 3, 16, 16), 0.4), torch.full((1, 1, 16, 16), 0.7))
    torch.testing.assert_close(found, torch.full((1, 1, 16, 16), 0.7), rtol=1e-4, atol=0)
