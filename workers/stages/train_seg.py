"""Training a segmenter on a label artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aream.config import Component, config
from aream.data.label_maps import refuse_ground_truth
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.train import SegmentationRun
from aream.train import seed_everything
from workers.components import build_dataset, build_segmenter
from workers.files.labels import read_labels
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages._training import keep, train
from workers.stages.pseudo_label import LABELS_FOLDER
from workers.stages.warmup import IN_PIECES

VERSION = 3
COMPUTES_ON: tuple[Part, ...] = ("device",)
METRICS = (
    Metric("train/segmentation_loss", "the segmenter's loss, mean over an epoch", "", "min", epochs=True),
    IN_PIECES,
)


@config
class Config:
    data: Component
    model: Component
    train: SegmentationTraining
    seed: int


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``labels``: a label artifact.

    Raises:
        DataError: the labels are the ground truth.
    """
    dataset = build_dataset(config.data, context.runtime)

    def labels_of(image_id: str) -> np.ndarray:
        return read_labels(inputs["labels"] / LABELS_FOLDER / f"{image_id}.png")

    refuse_ground_truth(dataset, labels_of)
    seed_everything(config.seed)
    segmenter = build_segmenter(config.model, len(dataset.class_names) + 1, config.train.crop)
    runtime = context.runtime
    training = SegmentationRun(
        segmenter, dataset, labels_of, config.train, config.seed, device=runtime.device, loading=runtime.loading
    )
    train(training, context)
    keep(training, training.weights(), out)
    return {"train/segmentation_loss": training.history[-1]["train/segmentation_loss"]}
