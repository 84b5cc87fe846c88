"""mIoU of the decoder that a method trained beside its CAMs, on the val split: segmentation in a single stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aream import discover, methods
from aream.config import config
from aream.errors import ConfigError
from aream.methods.protocol import says
from aream.metrics import counted_classes, mean_iou
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.decoder_of_method import DecoderOfMethod
from aream.segmentation.predict import evaluate, predict
from workers.analysis import Subject
from workers.components import trained_host, trained_method
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, Stage, StageContext
from workers.stages import train_cam

VERSION = 1
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
METRICS = (
    Metric("head/seg_miou", "mIoU of the method's own decoder, val masks", better="max", shown="report"),
    Metric("head/seg_miou_all", "the same over all classes; val masks", better="max"),
    Metric("head/seg_classes", "scored classes in the val masks, over which head/seg_miou is taken", unit="classes"),
)


@config
class Options:
    evaluate: SegmentationEvaluation = SegmentationEvaluation(scales=(1.0,))
    """Settings by which views of an image are made and merged. MoRe: ``image_size`` 448, ``scales`` 1, 1.25 and 1.5."""


@config
class Config:
    training: train_cam.Config
    evaluate: SegmentationEvaluation


def analysis(subject: Subject, options: Options) -> Stage:
    """Return the stage for a training; its variants have it in common.

    Raises:
        ConfigError: the method has no decoder.
    """
    training = subject.host.config
    if not says(discover.load(methods, training.method.name), "SEGMENTS", training.method.config):
        raise ConfigError(
            f"segmentation_head: method {training.method.name} trains no decoder; more does with segment: true"
        )
    entropy = {name: stage for name, stage in subject.host.inputs.items() if name == "entropy"}
    config = Config(training=training, evaluate=options.evaluate)
    return Stage("segmentation_head", config, {"host": subject.host, **entropy}, dict(subject.fingerprints))


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Inputs: ``host``, the trained weights; ``entropy``, where the method was trained with it."""
    training, runtime = config.training, context.runtime
    size = training.train.image_size
    dataset, host = trained_host(training.data, training.backbone, size, inputs["host"], runtime)
    method = trained_method(training.method, host, len(dataset.class_names), size, inputs)
    found = predict(
        DecoderOfMethod(method, host),
        dataset,
        "val",
        config.evaluate,
        device=runtime.device,
        precision=training.train.precision,
        loading=runtime.loading,
    )
    confusion = evaluate(context.watched(found), dataset)
    return {
        "head/seg_miou": mean_iou(confusion, dataset.scored_classes),
        "head/seg_miou_all": mean_iou(confusion, None),
        "head/seg_classes": float(counted_classes(confusion, dataset.scored_classes)),
    }
