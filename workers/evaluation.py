"""A folder of labels, predictions or CAMs that was made by anything, scored against a dataset's masks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from aream.cams.dictionaries import read_cam_dictionary
from aream.data.dataset import Dataset
from aream.data.findings import SPLITS
from aream.data.reading import in_threads
from aream.errors import ConfigError, DataError
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from aream.metrics import IGNORE, class_iou, confusion_matrix, counted_classes, mean_iou, pixel_accuracy
from workers.files.labels import read_labels

ENDINGS = (".png", ".npy")
"""Of label maps, and of dictionaries of CAMs."""
NAMED = 3


@dataclass(frozen=True)
class Evaluation:
    confusion: Int64[np.ndarray, "k k"]
    """Pixels by their id in the mask and in the label."""
    miou: float
    """Over the dataset's scored classes."""
    miou_all: float
    classes: int
    """Scored classes that the masks show."""
    pixel_accuracy: float
    class_iou: list[float | None]
    """Per mask id; None where it is in neither."""
    images: int
    """That were scored."""
    without: tuple[str, ...] = ()
    """Images with a mask that the folder has nothing for."""
    threshold: float | None = None
    """Of CAMs."""
    curve: tuple[tuple[float, float], ...] = ()
    """Threshold and mIoU, of CAMs."""


def evaluate_folder(
    folder: Path, dataset: Dataset, split: str, labels: LabelsConfig, *, partial: bool = False
) -> Evaluation:
    """Score every image of a split that has a mask.

    Files are called ``ID.png`` (palette or grey, 255 counts as background) or ``ID.npy`` (dictionaries of CAMs), or as
    their image is where no other image of the dataset is called so.

    Args:
        labels: the threshold of CAMs, and how classes without a pixel count.
        partial: whether images that the folder has nothing for are left out; else they are an error.

    Raises:
        ConfigError: no such folder, one with neither kind of file, or a threshold for label maps.
        DataError: a file that cannot be used, or that is missing; no mask to score by.
    """
    ending = _ending(folder)
    if ending == ".png" and labels.rule == "fixed":
        raise ConfigError(f"--threshold: is about CAMs, and {folder} holds label maps")
    names = _names(dataset)
    found: dict[str, Path] = {}
    without: list[str] = []
    for image_id in dataset.ids(split):
        paths = (folder / f"{name}{ending}" for name in names[image_id])
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found[image_id] = path
        else:
            without.append(image_id)
    without = [image_id for image_id in without if dataset.mask(image_id) is not None]
    if without and not partial:
        raise DataError(
            f"{folder}: no {ending} file for {len(without)} of the {split} images with a mask, such as "
            f"{', '.join(without[:NAMED])}; expected {_expected(folder, without[0], names, ending)}; --partial scores "
            "the others alone"
        )
    score = _score_cams if ending == ".npy" else _score_maps
    return dataclasses.replace(score(found, dataset, labels), without=tuple(without))


def _ending(folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    kinds = [ending for ending in ENDINGS if any(path.suffix == ending for path in folder.iterdir())]
    if len(kinds) != 1:
        raise ConfigError(
            f"{folder}: need files of one kind, {' or '.join(ENDINGS)}; it has {' and '.join(kinds) or 'none'}"
        )
    return kinds[0]


def _names(dataset: Dataset) -> dict[str, list[str]]:
    """What each image's file may be called: its id, or as the image's file is where no other image is called so."""
    ids = [*dict.fromkeys(image_id for split in SPLITS for image_id in dataset.ids(split))]
    path_of: Callable[[str], Path] | None = getattr(dataset, "image_path", None)
    if path_of is None:
        return {image_id: [image_id] for image_id in ids}
    stems = {image_id: path_of(image_id).stem for image_id in ids}
    called = Counter(name for image_id, stem in stems.items() for name in {image_id, stem})
    return {
        image_id: [image_id, stem] if stem != image_id and called[stem] == 1 else [image_id]
        for image_id, stem in stems.items()
    }


def _expected(folder: Path, image_id: str, names: Mapping[str, Sequence[str]], ending: str) -> str:
    return " or ".join(str(folder / f"{name}{ending}") for name in names[image_id])


def _score_maps(found: dict[str, Path], dataset: Dataset, labels: LabelsConfig) -> Evaluation:
    classes = len(dataset.class_names) + 1

    def count(image_id: str) -> Int64[np.ndarray, "k k"] | None:
        mask = dataset.mask(image_id)
        if mask is None:
            return None
        path = found[image_id]
        label = read_labels(path)
        if label.shape != mask.shape:
            raise DataError(
                f"{path}: is {label.shape[1]} x {label.shape[0]}, the mask {mask.shape[1]} x {mask.shape[0]}"
            )
        wrong = sorted({int(value) for value in np.unique(label)} - {*range(classes), IGNORE})
        if wrong:
            raise DataError(
                f"{path}: label ids {wrong[:8]} are out of range; allowed are 0..{classes - 1} and {IGNORE}"
            )
        return confusion_matrix(np.where(label == IGNORE, 0, label).astype(np.uint8), mask, classes)

    total, images = np.zeros((classes, classes), dtype=np.int64), 0
    for confusion in in_threads(count, found):
        if confusion is not None:
            total, images = total + confusion, images + 1
    return _scored(total, images, dataset.scored_classes, labels)


def _score_cams(found: dict[str, Path], dataset: Dataset, labels: LabelsConfig) -> Evaluation:
    classes = len(dataset.class_names)
    search, images = ThresholdSearch(labels.grid(), classes + 1), 0
    for image_id, path in found.items():
        mask = dataset.mask(image_id)
        if mask is not None:
            cams = read_cam_dictionary(path, classes, mask.shape)
            search.add(image_id, torch.from_numpy(cams.maps), cams.class_ids, torch.from_numpy(mask))
            images += 1
    choice = search.choose(labels, dataset.scored_classes)
    confusion = (search.rest.confusions() + search.held_out.confusions())[choice.index]
    scored = _scored(confusion, images, dataset.scored_classes, labels)
    curve = tuple(zip(choice.thresholds, choice.curve, strict=True))
    return dataclasses.replace(scored, threshold=choice.threshold, curve=curve)


def _scored(
    confusion: Int64[np.ndarray, "k k"], images: int, scored: Sequence[int], labels: LabelsConfig
) -> Evaluation:
    ious = class_iou(confusion)
    return Evaluation(
        confusion=confusion,
        miou=mean_iou(confusion, scored, labels.absent_classes),
        miou_all=mean_iou(confusion, None, labels.absent_classes),
        classes=counted_classes(confusion, list(scored)),
        pixel_accuracy=pixel_accuracy(confusion),
        class_iou=[None if np.isnan(value) else float(value) for value in ious],
        images=images,
    )
