"""mIoU, pixel accuracy and the IoU of each class of a trained segmenter on the val split, against ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from aream.cams.overlays import overlay
from aream.config import Component, config
from aream.metrics import class_iou, confusion_matrix, counted_classes, mean_iou, pixel_accuracy
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import predict
from workers.components import build_dataset, build_segmenter, load_weights
from workers.files.labels import PALETTE, write_labels
from workers.files.pictures import write_picture
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages.pseudo_label import OVERLAYS, OVERLAYS_FOLDER

VERSION = 4
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
PREDICTIONS_FOLDER, IOU_FILE, IMAGES_FILE = "predictions", "iou.json", "images.json"
"""Predicted class ids of every val image as label PNGs; IoU of each class by its name; the same of each image with a
mask, by its id, the background first."""
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
    names = ["background", *dataset.class_names]
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    by_image: dict[str, list[float | None]] = {}
    for folder in (OVERLAYS_FOLDER, PREDICTIONS_FOLDER):
        (out / folder).mkdir()
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
        write_labels(out / PREDICTIONS_FOLDER / f"{image_id}.png", labels)
        mask = dataset.mask(image_id)
        if index < OVERLAYS:
            picture = overlay(dataset.image(image_id), np.zeros(labels.shape), labels, mask, PALETTE)
            write_picture(out / OVERLAYS_FOLDER / f"{image_id}.png", picture)
        if mask is not None:
            own = confusion_matrix(labels, mask, len(names))
            confusion += own
            by_image[image_id] = _ious(own)
    (out / IOU_FILE).write_text(json.dumps(dict(zip(names, _ious(confusion), strict=True))), encoding="utf-8")
    (out / IMAGES_FILE).write_text(json.dumps(by_image), encoding="utf-8")
    return {
        "seg/miou": mean_iou(confusion, dataset.scored_classes),
        "seg/miou_all": mean_iou(confusion, None),
        "seg/classes": float(counted_classes(confusion, dataset.scored_classes)),
        "seg/pixel_accuracy": pixel_accuracy(confusion),
    }


def _ious(confusion: Int64[np.ndarray, "k k"]) -> list[float | None]:
    """IoU of each class; None for one in neither the masks nor the predictions."""
    return [None if np.isnan(value) else float(value) for value in class_iou(confusion)]
