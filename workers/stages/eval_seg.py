"""mIoU, pixel accuracy and the IoU of each class of a trained segmenter on the val split, against ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from aream.cams.overlays import overlay
from aream.config import Component, config
from aream.metrics import class_iou, counted_classes, mean_iou, pixel_accuracy
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import evaluate, predict
from workers.components import build_dataset, build_segmenter, load_weights
from workers.files.labels import PALETTE
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages.pseudo_label import OVERLAYS, OVERLAYS_FOLDER

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
METRICS = (
    Metric("seg/miou", "mIoU of the segmenter, val masks", better="max", shown="always"),
    Metric("seg/miou_all", "the same over all classes; val masks", better="max", shown="report"),
    Metric("seg/classes", "scored classes in the val masks, over which seg/miou is taken", unit="classes"),
    Metric("seg/pixel_accuracy", "share of the pixels that the segmenter gets right, val masks", better="max"),
)


@config
class Config:
    data: Component
    model: Component
    crop: int
    """Side of the training crops: the grid a ViT encoder's positions were learnt for."""
    evaluate: SegmentationEvaluation
    precision: str


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``segmenter``: the trained weights."""
    dataset = build_dataset(config.data, context.runtime)
    segmenter = build_segmenter(config.model, len(dataset.class_names) + 1, config.crop)
    load_weights(segmenter, inputs["segmenter"])
    segmenter.to(context.runtime.device)
    (out / OVERLAYS_FOLDER).mkdir()

    def predictions() -> Iterator[tuple[str, np.ndarray]]:
        found = predict(
            segmenter,
            dataset,
            "val",
            config.evaluate,
            device=context.runtime.device,
            precision=config.precision,
            loading=context.runtime.loading,
        )
        for index, (image_id, labels) in enumerate(context.watched(found)):
            if index < OVERLAYS:
                picture = overlay(
                    dataset.image(image_id), np.zeros(labels.shape), labels, dataset.mask(image_id), PALETTE
                )
                picture.save(out / OVERLAYS_FOLDER / f"{image_id}.png")
            yield image_id, labels

    confusion = evaluate(predictions(), dataset)
    ious = [None if np.isnan(value) else float(value) for value in class_iou(confusion)]
    (out / "iou.json").write_text(
        json.dumps(dict(zip(["background", *dataset.class_names], ious, strict=True))), encoding="utf-8"
    )
    return {
        "seg/miou": mean_iou(confusion, dataset.scored_classes),
        "seg/miou_all": mean_iou(confusion, None),
        "seg/classes": float(counted_classes(confusion, dataset.scored_classes)),
        "seg/pixel_accuracy": pixel_accuracy(confusion),
    }
