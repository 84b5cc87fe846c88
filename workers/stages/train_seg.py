"""Training a segmenter on a label artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from aream.config import Component, config
from aream.data._protocol import IGNORE, Dataset
from aream.errors import DataError
from aream.segmentation import ReadLabels, SegmentationRun
from aream.segmentation_config import SegmentationTraining
from aream.training import seed_everything
from workers.components import build_dataset, build_segmenter
from workers.label_files import read_labels
from workers.metric import Metric
from workers.stage import Row, StageContext
from workers.stages.pseudo_label import LABELS_FOLDER
from workers.stages.train_cam import WEIGHTS_FILE
from workers.stages.warmup import IN_PIECES

VERSION = 1
METRICS = (
    Metric("train/segmentation_loss", "the segmenter's loss, mean over an epoch", "", "min", epochs=True),
    IN_PIECES,
)

GROUND_TRUTH_AGREEMENT = 0.999
"""Share of pixels that no pseudo-label reaches: the best published ones agree with the masks on about 95 %."""


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
    dataset = build_dataset(config.data)

    def labels_of(image_id: str) -> np.ndarray:
        return read_labels(inputs["labels"] / LABELS_FOLDER / f"{image_id}.png")

    refuse_ground_truth(dataset, labels_of)
    seed_everything(config.seed)
    segmenter = build_segmenter(config.model, len(dataset.class_names) + 1, config.train.crop)
    training = SegmentationRun(segmenter, dataset, labels_of, config.train, config.seed, device=context.runtime.device)
    state = context.checkpoint.load()
    if state is not None:
        training.restore(state)
    for row in training.history:
        context.report(row)
    training.run(
        report=context.report,
        checkpoints=context.checkpoints(),
    )
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in segmenter.state_dict().items()},
        out / WEIGHTS_FILE,
    )
    (out / "history.json").write_text(json.dumps(training.history, indent=1))
    return {"train/segmentation_loss": training.history[-1]["train/segmentation_loss"]}


def refuse_ground_truth(dataset: Dataset, labels_of: ReadLabels) -> None:
    """Pseudo-labels that equal the masks are the masks; a published number was once wrong for that reason.

    Raises:
        DataError: over all train images with a mask, labels and masks agree on more than 99.9 % of the pixels
            that the mask does not ignore.
    """
    same = total = 0
    for image_id in dataset.ids("train"):
        mask = dataset.mask(image_id)
        if mask is not None:
            counted = mask != IGNORE
            same += int((labels_of(image_id) == mask)[counted].sum())
            total += int(counted.sum())
    if total and same / total > GROUND_TRUTH_AGREEMENT:
        raise DataError(
            f"the pseudo-labels are the ground truth: they agree with the masks on {same / total:.2%} of the pixels; "
            "a segmenter trained on them is fully supervised. Give labels made from CAMs"
        )
