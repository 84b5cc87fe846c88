"""Encoders of one image size: told before a sweep, not when its segmenters are trained or scored."""

from __future__ import annotations

import dataclasses

import pytest

from aream.config import Component
from aream.errors import ConfigError
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmenters import deeplab
from workers.checks.training_step import check_segmenter
from workers.trial import SegmentationConfig


def job(encoder: str, crop: int, evaluate: SegmentationEvaluation | None = None) -> SegmentationConfig:
    config = deeplab.Config(encoder=encoder, output_stride=None, rates=(1,), channels=4)
    return SegmentationConfig(
        model=Component(name="deeplab", config=config),
        train=SegmentationTraining(crop=crop, batch_size=2),
        evaluate=evaluate or SegmentationEvaluation(scales=(1.0,)),
    )


def check(segmentation: SegmentationConfig, size: tuple[int, int]) -> None:
    check_segmenter(segmentation, 3, 4, size)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "crop"), [("dla46_c", 65), ("cait_xxs24_224", 64)])
def test_a_crop_that_the_encoder_does_not_take(encoder, crop):
    """One fails by shapes that do not meet, the other says what it wants."""
    with pytest.raises(ConfigError, match=rf"deeplab cannot see {crop} x {crop} pixels \(segmentation.train.crop\)"):
        check(job(encoder, crop), (64, 64))


@pytest.mark.slow
def test_an_image_that_it_does_not_take_when_it_is_scored():
    segmentation = job("dla46_c", 64, SegmentationEvaluation(scales=(0.5, 1.0)))
    check(segmentation, (128, 64))
    with pytest.raises(ConfigError, match=r"cannot see 47 x 35 pixels \(segmentation.evaluate, scale 0.5 of an image"):
        check(segmentation, (94, 70))
    check(dataclasses.replace(segmentation, evaluate=SegmentationEvaluation(scales=(1.0,), image_size=64)), (94, 70))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet10t", "deit_tiny_patch16_224", "vit_tiny_patch16_224"])
def test_encoders_of_any_size(encoder):
    check(job(encoder, 33, SegmentationEvaluation(scales=(0.5, 1.0, 1.75))), (51, 37))
