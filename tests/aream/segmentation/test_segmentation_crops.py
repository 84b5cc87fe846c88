from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from PIL import Image

from aream.segmentation.config import SegmentationTraining
from aream.segmentation.crops import TrainingCrops, shifted_hsv

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def crops(**changes) -> TrainingCrops:
    return TrainingCrops(SegmentationTraining(**changes), 0, **PLAIN)


def told(labels: np.ndarray) -> Image.Image:
    """An image whose every pixel says its label."""
    return Image.fromarray(np.repeat(labels[..., None], 3, axis=2))


@pytest.mark.parametrize("side", [5, 16, 40])
def test_pixels_keep_their_labels_and_the_rest_is_ignored(side):
    labels = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    made = crops(crop=side, scale=(1.0, 1.0))
    mirrored = 0
    for index in range(20):
        pixels, target = made.crop(told(labels), labels, 0, f"image_{index}", None)
        assert pixels.shape == (3, side, side)
        inside = target.numpy() != 255
        assert inside.sum() == min(side, 12) * min(side, 20)
        np.testing.assert_array_equal((pixels[1].numpy() * 255).round()[inside], target.numpy()[inside])
        assert (pixels.numpy()[:, ~inside] == 0).all()
        row = target.numpy()[0][inside[0]].astype(int)
        mirrored += int(row[1] < row[0])
    assert 0 < mirrored < 20


def test_crops_depend_on_seed_epoch_and_image_alone():
    labels = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    first = crops(crop=8, hsv_jitter=10).crop(told(labels), labels, 3, "a", None)
    np.random.seed(5)
    again = crops(crop=8, hsv_jitter=10).crop(told(labels), labels, 3, "a", None)
    assert all(bool((one == other).all()) for one, other in zip(first, again, strict=True))
    other = crops(crop=8, hsv_jitter=10).crop(told(labels), labels, 4, "a", None)
    assert not bool((first[1] == other[1]).all())


def sizes(made: TrainingCrops, step: int) -> list[int]:
    """Sides of the scaled images of a step, which the crop holds whole."""
    labels = np.ones((20, 20), dtype=np.uint8)
    scale = made.batch_scale(0, step)
    return [
        math.isqrt(int((made.crop(told(labels), labels, 0, f"{step}_{index}", scale)[1] == 1).sum()))
        for index in range(12)
    ]


def test_a_batch_can_share_its_scale():
    made = crops(crop=64, scale=(0.5, 2.0), scale_per="batch")
    assert all(len(set(sizes(made, step))) == 1 for step in range(4))
    assert len({sizes(made, step)[0] for step in range(8)}) > 4
    assert all(10 <= sizes(made, step)[0] <= 40 for step in range(8))


def test_each_image_can_have_its_own_scale():
    found = sizes(crops(crop=64, scale=(0.5, 2.0), scale_per="image"), 0)
    assert len(set(found)) > 6
    assert min(found) >= 10
    assert max(found) <= 40


@pytest.mark.parametrize("shift", [(0, 0, 0), (90, 0, 0), (-10, 9, -7), (7, -200, 30), (0, 0, 250)])
def test_colours_shift_as_in_a_loop(shift):
    pixels = np.random.default_rng(0).integers(30, 226, (9, 11, 3)).astype(np.uint8)
    pixels[..., 0] //= 2  # no grey, which has no hue
    found = np.asarray(shifted_hsv(Image.fromarray(pixels), shift)).astype(int)
    for y in range(9):
        for x in range(11):
            hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[y, x] / 255))
            hue = (hue + 2 * shift[0] / 360) % 1
            saturation, value = (
                min(max(s + d / 255, 0), 1) for s, d in zip((saturation, value), shift[1:], strict=True)
            )
            expected = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
            assert np.abs(found[y, x] - expected).max() < 12  # 8 bits for each of hue, saturation and value
    assert found.min() >= 0


def test_white_stays_white_and_black_can_brighten():
    both = Image.fromarray(np.array([[[255] * 3, [0] * 3]], dtype=np.uint8))
    assert np.asarray(shifted_hsv(both, (0, 0, 10))).tolist() == [[[255] * 3, [10] * 3]]
    assert np.asarray(shifted_hsv(both, (50, -10, -10))).tolist() == [[[245] * 3, [0] * 3]]


def test_an_image_of_one_pixel_is_a_crop():
    labels = np.ones((1, 1), dtype=np.uint8)
    pixels, target = crops(crop=3, scale=(0.1, 0.2), hsv_jitter=5).crop(told(labels), labels, 0, "a", None)
    assert pixels.shape == (3, 3, 3)
    assert (target == 1).sum() == 1
    assert (target == 255).sum() == 8
