"""Random changes of training images, and where padding goes from there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import CPU

from aream.augmentations import deit, scale_and_crop
from aream.backbones import conformer
from aream.backbones.protocol import BackboneOutput
from aream.cams.affinity import LayerQK
from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import TrainingBatches, seeded
from aream.engine.loading import Loading
from aream.errors import ConfigError
from aream.images import to_tensor
from aream.methods import aream

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
STILL = {"scale": (1.0, 1.0), "flip": 0.0, "color_jitter_probability": 0.0}


def picture(width: int, height: int) -> Image.Image:
    """Every pixel is another one, none is black."""
    values = np.arange(1, 1 + width * height)
    channels = np.stack([values % 251 + 1, values // 251 + 1, 255 - values % 200], -1)
    return Image.fromarray(channels.reshape(height, width, 3).astype(np.uint8))


def augmented(image: Image.Image, side: int, draw: object = 0, **changes):
    augment = scale_and_crop.build(scale_and_crop.Config(**(STILL | changes)), side, MEAN, STD)
    with seeded(draw):
        return augment(image)


def test_pixels_are_normalised_to_the_bit_and_lie_as_in_the_image():
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found = to_tensor(Image.fromarray(values), MEAN, STD)
    expected = (values.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    np.testing.assert_array_equal(found.numpy(), expected.transpose(2, 0, 1))
    assert found.stride() == (1, 48, 3)


@pytest.mark.parametrize("size", [(5, 7), (12, 5), (5, 12), (12, 13), (8, 8), (1, 1), (6, 20)])
def test_a_crop_shows_a_part_of_the_image_on_black(size):
    """Found again by looking for it; over many draws it lies everywhere it can."""
    image, side = picture(*size), 8
    whole = to_tensor(image, MEAN, STD)
    black = to_tensor(Image.new("RGB", (1, 1)), MEAN, STD)
    shown = [min(length, side) for length in size]
    places = set()
    for draw in range(400):
        pixels, valid = augmented(image, side, draw)
        assert pixels.shape == (3, side, side)
        rows, columns = (torch.nonzero(valid.any(axis)).flatten().tolist() for axis in (1, 0))
        assert [len(columns), len(rows)] == shown
        assert int(valid.sum()) == len(rows) * len(columns)
        assert (pixels[:, ~valid] == black[:, :, 0]).all()
        crop = pixels[:, valid].reshape(3, len(rows), len(columns))
        (found,) = [
            (top, left)
            for top in range(size[1] - len(rows) + 1)
            for left in range(size[0] - len(columns) + 1)
            if torch.equal(whole[:, top : top + len(rows), left : left + len(columns)], crop)
        ]
        places.add((found, rows[0], columns[0]))
    choices = [range(abs(length - side) + 1) for length in size]
    assert len(places) == len(list(itertools.product(*choices)))


def test_scale_mirror_and_colours():
    image = picture(20, 10)
    pixels, valid = augmented(image, 16, scale=(0.5, 0.5))
    assert int(valid.sum()) == 10 * 5
    half = to_tensor(image.resize((10, 5), Image.Resampling.BICUBIC), MEAN, STD)
    torch.testing.assert_close(pixels[:, valid].reshape(3, 5, 10), half)
    for draw in range(20):
        _, valid = augmented(image, 64, draw, long_side=(30, 32))
        rows, columns = int(valid.any(1).sum()), int(valid.any(0).sum())
        assert columns in (30, 31, 32)
        assert rows == columns // 2
    square = picture(8, 8)
    mirrored, _ = augmented(square, 8, flip=1.0)
    torch.testing.assert_close(mirrored, to_tensor(square, MEAN, STD).flip(-1))
    changed, _ = augmented(square, 8, color_jitter_probability=1.0)
    assert not torch.equal(changed, to_tensor(square, MEAN, STD))
    assert torch.equal(changed, augmented(square, 8, color_jitter_probability=1.0)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale: need 0 < low <= high"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"long_side": (640, 320)}, "long_side"),
        ({"flip": 1.5}, "flip: need a probability"),
        ({"color_jitter": (0.4, 0.4, 0.2, 0.6)}, "color_jitter: need four strengths"),
        ({"color_jitter": (-0.4, 0.4, 0.2, 0.1)}, "color_jitter: need four strengths"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        scale_and_crop.Config(**changes)


def batches(augmentation: Component, workers: int = 0) -> list:
    dataset = shapes.build(shapes.Config(image_size=32, train_images=6, val_images=2))
    made = TrainingBatches(
        dataset, side=48, batch_size=3, augmentation=augmentation, mean=MEAN, std=STD, seed=5, loading=Loading(workers)
    )  # fmt: skip
    return list(made.epoch(0))


SMALLER = Component(name="scale_and_crop", config=scale_and_crop.Config(scale=(0.5, 1.2)))


def test_batches_carry_where_images_are_padding():
    for batch in batches(SMALLER):
        black = to_tensor(Image.new("RGB", (1, 1)), MEAN, STD)
        assert batch.valid.shape == (3, 48, 48)
        assert 0 < int(batch.valid.sum()) < 3 * 48 * 48
        padding = batch.images.permute(0, 2, 3, 1)[~batch.valid]
        torch.testing.assert_close(padding, black.flatten().expand_as(padding))
        parts = [part for size in (1, 2) for part in batch.split(size)]
        assert [len(part.valid) for part in parts] == [1, 1, 1, 2, 1]
        assert torch.equal(torch.cat([part.valid for part in parts[3:]]), batch.valid)
        assert torch.equal(batch.to(CPU).valid, batch.valid)
    assert all(batch.valid is None for batch in batches(Component(name="deit", config=deit.Config())))


@pytest.mark.slow
def test_loader_processes_change_nothing():
    for one, two in zip(batches(SMALLER), batches(SMALLER, workers=2), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.valid, two.valid)


def test_padding_is_labelled_ignore_and_pulls_at_no_token():
    torch.manual_seed(0)
    config = conformer.Config(patch_size=8, dim=12, depth=3, heads=3, base_channels=4, channel_ratio=1)
    host = conformer.build(config, 6, 48).train()
    method = aream.build(aream.resolve(aream.Config(alpha_low=0.3, alpha_high=0.5, label_scales=(0.5, 1.0)), 3))
    (batch, _) = batches(SMALLER)
    (losses,) = method.losses_of_parts(host, [batch])
    output = host(batch.images)
    leaves = [LayerQK(layer.queries.detach().requires_grad_(), layer.keys.detach()) for layer in output.layers]
    losses(BackboneOutput(output.logits, output.cams, leaves)).losses["affinity"].backward()
    padded = ~batch.valid[:, ::8, ::8].flatten(1)  # the pixel nearest sampling takes for each patch
    pulled = leaves[2].queries.grad[:, :, 1:].abs().sum((1, 3))
    assert padded.any()
    assert (pulled[padded] == 0).all()
    assert (pulled[~padded] > 0).any()
