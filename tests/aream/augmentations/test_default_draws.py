"""What a training draws at its defaults, thousands of times: one image in a thousand must not end it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment

from aream import augmentations, discover
from aream.augmentations import deit
from aream.engine.batches import seeded

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (16, 16), (40, 7), (33, 50)]


def pictures() -> list[Image.Image]:
    """Noise and single colours, of every size."""
    noise = np.random.default_rng(0)
    made = [Image.fromarray(noise.integers(0, 256, (h, w, 3)).astype(np.uint8)) for w, h in SIZES]
    return made + [Image.new("RGB", size, (value,) * 3) for size in SIZES for value in (0, 128, 255)]


@pytest.mark.slow
@pytest.mark.parametrize("name", discover.names(augmentations))
def test_the_default_augmentations_take_every_draw(name):
    module = discover.load(augmentations, name)
    augment, every = module.build(module.Config(), 16, MEAN, STD), pictures()
    for draw in range(4000):
        with seeded("default draws", draw):
            pixels, valid = augment(every[draw % len(every)])
        assert pixels.shape == (3, 16, 16)
        assert torch.isfinite(pixels).all()
        assert valid is None or valid.any()


POLICIES = (
    "rand-m9-mstd0.5-inc1 rand-m10-n3-inc1 rand-m20-mmax40-p1-inc1 rand-m0-n3 rand-mstd101-tweights rand-t3aw-inc1 "
    "original originalr-mstd2 v0-mstd3 v0r-mstd3 augmix-m10 augmix-m3-b1"
)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES.split())
def test_every_policy_takes_every_draw(policy):
    augment, every = deit.build(deit.Config(rand_augment=policy), 16, MEAN, STD), pictures()
    for draw in range(500):
        with seeded(policy, draw):
            augment(every[draw % len(every)])


@pytest.mark.parametrize("bits", [-4, -1, 0, 1, 4, 7, 8, 9])
def test_posterize_keeps_the_highest_bits(bits):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([values, values.T, 255 - values], -1))
    lost = 8 - min(max(bits, 0), 8)
    expected = np.array(image).astype(int) // 2**lost * 2**lost
    np.testing.assert_array_equal(np.array(deit.posterize(image, bits, fillcolor=(1, 2, 3))), expected)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["rand-m10-n1-p1-inc1", "rand-m0-n1-p1", "v0r", "augmix-m10"])
def test_all_operations_of_a_policy_take_their_extremes(policy):
    """Every operation at magnitude 0, at the usual bound and beyond it, on every picture."""
    operations = list(deit.single_changes(deit.build(deit.Config(rand_augment=policy), 16, MEAN, STD).transform))
    assert {operation.name for operation in operations} & {"Posterize", "PosterizeIncreasing"}
    for operation in operations:
        operation.prob, operation.magnitude_std, operation.magnitude_max = 1.0, 0, 100
        for operation.magnitude in (0, 0.1, 1, 5, 9.99, 10, 11, 20, 100):
            random.seed(0)
            for image in pictures():
                assert operation(image).size == image.size, operation


@pytest.mark.slow
def test_no_operation_of_timm_is_left_that_pillow_refuses():
    """What is not ours is timm's, at any magnitude that its own bound lets through."""
    hparams = {"translate_const": 10, "img_mean": (1, 2, 3)}
    for name in auto_augment.NAME_TO_OP:
        operation = auto_augment.AugmentOp(name, prob=1.0, hparams=hparams)
        if name.startswith("Posterize"):
            operation.aug_fn = deit.posterize
        for operation.magnitude in np.linspace(0, 10, 41).tolist():
            for image in pictures():
                operation(image)
