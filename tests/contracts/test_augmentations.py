"""What every augmentation promises, over all that there are."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from aream import augmentations, discover
from aream.augmentations.protocol import Augment
from aream.engine.batches import seeded

MEAN, STD, SIDE = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 16
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (16, 16), (40, 7), (33, 50)]


@pytest.fixture(params=discover.names(augmentations))
def augment(request) -> Augment:
    module = discover.load(augmentations, request.param)
    return module.build(module.Config(), SIDE, MEAN, STD)


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * 100 + height)
    return Image.fromarray(noise.integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_a_draw_is_its_seeds_alone_here_and_in_a_loaders_worker(augment, size):
    assert isinstance(augment, Augment)
    there, drawn = pickle.loads(pickle.dumps(augment)), []
    for draw in range(20):
        with seeded("contract", draw):
            pixels, valid = augment(picture(*size))
        with seeded("contract", draw):
            again, valid_again = there(picture(*size))
        torch.testing.assert_close(pixels, again, atol=0, rtol=0)
        assert pixels.shape == (3, SIDE, SIDE)
        assert torch.isfinite(pixels).all()
        if valid is not None:
            assert torch.equal(valid, valid_again)
            assert (valid.dtype, valid.shape) == (torch.bool, (SIDE, SIDE))
            assert valid.any()
        drawn.append(pixels)
    assert size == (1, 1) or any(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_pixels_are_normalised_as_the_backbone_expects(augment):
    """One colour stays one wherever nothing is drawn over it; a pixel is (value - mean) / std."""
    low = -torch.tensor(MEAN) / torch.tensor(STD)
    high = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    for draw in range(20):
        with seeded("range", draw):
            pixels, valid = augment(picture(33, 50))
        shown = pixels if valid is None else pixels[:, valid]
        shown = shown.flatten(1)
        # erased parts may be noise of the normalised scale
        inside = (shown >= low[:, None] - 1e-4) & (shown <= high[:, None] + 1e-4)
        assert inside.float().mean() > 0.5
