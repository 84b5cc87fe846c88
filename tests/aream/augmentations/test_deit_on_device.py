"""The augmentation on the device is the one on the CPU, Pillow's and timm's, but for rounding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment

from aream.augmentations import deit, deit_on_device
from aream.augmentations._pixel_operations import COLOURS, MOVES
from aream.engine.batches import seeded
from aream.errors import ConfigError

MEAN, STD, SIDE = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 48
FILL = (102, 128, 153)
LEVELS = {
    name: (low, high)
    for names, low, high in (
        (("AutoContrast", "Equalize", "Invert"), 0, 10),
        (
            ("Posterize", "PosterizeIncreasing", "PosterizeOriginal", "Solarize", "SolarizeIncreasing", "SolarizeAdd"),
            0,
            10,
        ),
        (("Brightness", "Color", "Contrast", "Sharpness", "Desaturate"), 0, 10),
        (("BrightnessIncreasing", "ColorIncreasing", "ContrastIncreasing", "SharpnessIncreasing"), 0, 10),
    )
    for name in names
}


def scene(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Smooth, as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def operation(name: str, magnitude: float):
    """timm's, always done."""
    hparams = {"img_mean": FILL, "translate_const": 20, "interpolation": Image.Resampling.BICUBIC}
    made = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
    if name.startswith("Posterize"):
        made.aug_fn = deit.posterize
    return made


def arguments(name: str, magnitude: float, draw: int) -> tuple[float, ...]:
    made = operation(name, magnitude)
    with seeded(name, draw):
        return tuple(map(float, made.level_fn(magnitude, made.hparams))) if made.level_fn else ()


def test_all_of_timm_but_blur_is_there():
    assert {*COLOURS, *MOVES} == {name for name in auto_augment.NAME_TO_OP if not name.startswith("GaussianBlur")}
    assert COLOURS.keys() == LEVELS.keys()


@pytest.mark.parametrize("name", sorted(COLOURS))
def test_colours_are_pillows(name):
    magnitudes = [0, 2.5, 5, 7.5, 10]
    images = [scene(number) for number, _ in enumerate(magnitudes)]
    given = [arguments(name, magnitude, 0) for magnitude in magnitudes]
    found = COLOURS[name](torch.stack([tensor(image) for image in images]), given)
    assert found.dtype == torch.uint8
    for image, one, magnitude in zip(images, found, magnitudes, strict=True):
        with seeded(name, 0):
            expected = tensor(operation(name, magnitude)(image))
        difference = (one.int() - expected.int()).abs()
        assert difference.max() <= 2, magnitude
        assert difference.float().mean() <= 0.6


@pytest.mark.parametrize("name", sorted(MOVES))
def test_moves_are_pillows(name):
    magnitudes = [0, 3, 7, 10, 10]
    images = [scene(number) for number, _ in enumerate(magnitudes)]
    given = [arguments(name, magnitude, draw) for draw, magnitude in enumerate(magnitudes)]
    assert {number < 0 for (number,) in given[1:]} == {True, False}  # both ways
    found = MOVES[name](torch.stack([tensor(image) for image in images]), given, FILL)
    for draw, (image, one, magnitude) in enumerate(zip(images, found, magnitudes, strict=True)):
        with seeded(name, draw):
            expected = tensor(operation(name, magnitude)(image))
        empty = (expected == torch.tensor(FILL)[:, None, None]).all(dim=0)
        same = (one == torch.tensor(FILL)[:, None, None]).all(dim=0) == empty
        assert same.float().mean() > 0.995  # but for pixels on the border
        difference = (one.int() - expected.int()).abs().float()
        assert difference[:, same].mean() < 1.5, magnitude
        assert empty.float().mean() > 0.02 or magnitude == 0


CONFIGS = {
    "default": deit.Config(),
    "jitter": deit.Config(rand_augment=None),
    "crops": deit.Config(rand_augment=None, color_jitter=0.0, erasing=0.0),
    "policy": deit.Config(rand_augment="original-mstd0.5"),
    "many": deit.Config(rand_augment="rand-m9-n4-mstd101-p0.8-inc1"),
    "always erased": deit.Config(rand_augment=None, color_jitter=0.0, erasing=1.0, flip=1.0),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_what_is_drawn_is_what_deit_draws(config):
    here = deit_on_device.build(deit_on_device.Config(**dataclasses.asdict(config)), SIDE, MEAN, STD)
    there = deit.build(config, SIDE, MEAN, STD)
    images = [scene(number, 40 + number, 70 - number) for number in range(24)]
    draws, expected = [], []
    for number, image in enumerate(images):
        with seeded("drawn", number):
            expected.append(there(image)[0])
            after = torch.rand(1), np.random.rand()
        with seeded("drawn", number):
            draws.append(here.draw(image.size))
            assert (torch.rand(1), np.random.rand()) == after
    found = here.changed([torch.from_numpy(np.array(image)) for image in images], draws)
    level = torch.tensor(STD)[:, None, None] * 255
    errors = torch.stack([((one - other).abs() * level).median() for one, other in zip(found, expected, strict=True)])
    moved = torch.tensor([any(name in MOVES for name, _ in draw.changes) for draw in draws])
    assert errors[~moved].max() <= 3
    assert errors.median() <= 1
    for draw, one, other in zip(draws, found, expected, strict=True):
        for top, left, noise in draw.erased:
            rows, columns = slice(top, top + noise.shape[1]), slice(left, left + noise.shape[2])
            torch.testing.assert_close(one[:, rows, columns], other[:, rows, columns], rtol=0, atol=0)
    assert any(draw.erased for draw in draws) == (config.erasing > 0)


def test_a_batch_is_its_images_one_by_one():
    augment = deit_on_device.build(deit_on_device.Config(), SIDE, MEAN, STD)
    images = [scene(number, 30 + 3 * number, 60) for number in range(8)]
    draws = []
    for number, image in enumerate(images):
        with seeded(number):
            draws.append(augment.draw(image.size))
    together = augment.changed([torch.from_numpy(np.array(image)) for image in images], draws)
    for number, image in enumerate(images):
        with seeded(number):
            torch.testing.assert_close(augment(image)[0], together[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "named"),
    [("augmix-m5", "mixtures of images"), ("rand-t3a", "GaussianBlur"), ("random", "timm string")],
)
def test_what_only_the_cpu_has_is_refused(policy, named):
    with pytest.raises(ConfigError, match=named):
        deit_on_device.Config(rand_augment=policy)
