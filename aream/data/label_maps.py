"""Examination of pseudo-labels of the train images: files, ids, sizes, and that they are not the ground truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from aream.data.dataset import Dataset
from aream.data.examination import STRANGE_SHARE
from aream.data.findings import Check, Findings, Looked
from aream.data.reading import in_threads
from aream.errors import DataError
from aream.metrics import BACKGROUND, IGNORE

ReadLabels = Callable[[str], UInt8[np.ndarray, "h w"]]

GROUND_TRUTH_IOU = 0.98
"""Intersection over union of all objects in labels and masks that no pseudo-label reaches: the best published ones are
at 0.8 or so. Pixels of the background say nothing: where objects are small, all labels have most of them right."""
DECIDED_SHARE = 0.5
"""Share of the masks' object pixels that labels give a class or background, and no 255: few sure pixels may all be
right, while ground truth often comes with 255 along its outlines only."""
CHECK: Check = "label maps"


@dataclass(frozen=True)
class _Seen:
    problem: tuple[str, str | DataError] = ("", "")
    """Kind and words."""
    objects: bool = False
    """True if any pixel has a class."""
    strange: str = ""
    both: int = 0
    """Pixels of an object that label and mask agree on."""
    either: int = 0
    """Pixels of an object in one of them."""
    undecided: int = 0
    """Pixels of an object in the mask that the label ignores."""


def check_label_maps(dataset: Dataset, read: ReadLabels, found: Findings) -> None:
    """Add what is wrong with the labels of the train images.

    Args:
        read: the label of an image; raises ``DataError`` naming the file that cannot be used.
    """
    ids = list(dataset.ids("train"))
    looked = list(in_threads(lambda image_id: _look(dataset, read, image_id), ids))
    for kind, words in (one.problem for one in looked if one.problem[0]):
        found.add(CHECK, kind, words, "train")
    found.looked.append(Looked(CHECK, "train", len(ids), len(ids)))
    usable = [one for one in looked if not one.problem[0]]
    if usable and not any(one.objects for one in usable):
        found.add(CHECK, "labels show no object", f"none of {len(usable)} labels has a pixel of a class", "train")
    strange = [one.strange for one in usable if one.strange]
    if len(strange) > STRANGE_SHARE * len(usable):
        for words in strange:
            found.add(CHECK, "labels have no class of their image", words, "train")
    share = _overlap(*(sum(each) for each in zip(*((o.both, o.either, o.undecided) for o in usable), strict=True)))
    if share is not None and share > GROUND_TRUTH_IOU:
        found.add(CHECK, "labels are the ground truth", _too_good(share), "train")


def refuse_ground_truth(dataset: Dataset, read: ReadLabels) -> None:
    """Pseudo-labels that equal the masks are the masks; a published number was once wrong for that reason.

    Raises:
        DataError: over all train images with a mask, the objects of labels and masks have an intersection over union
            of more than 0.98.
    """
    total = (0, 0, 0)
    for image_id in dataset.ids("train"):
        mask = dataset.mask(image_id)
        if mask is not None:
            both, either, undecided = _shared(read(image_id), mask)
            total = (total[0] + both, total[1] + either, total[2] + undecided)
    share = _overlap(*total)
    if share is not None and share > GROUND_TRUTH_IOU:
        raise DataError(_too_good(share))


def _look(dataset: Dataset, read: ReadLabels, image_id: str) -> _Seen:
    try:
        label = read(image_id)
        size, _ = dataset.look_at_image(image_id)
        mask = dataset.mask(image_id)
    except DataError as error:
        return _Seen(("labels cannot be used", error))
    classes = len(dataset.class_names)
    if label.shape != size[::-1]:
        words = f"{image_id}: the label is {label.shape[1]} x {label.shape[0]}, the image {size[0]} x {size[1]}"
        return _Seen(("labels have another size than their image", words))
    values = {int(value) for value in np.unique(label)}
    wrong = sorted(values - {*range(classes + 1), IGNORE})
    if wrong:
        words = f"{image_id}: label ids {wrong[:8]} are out of range; allowed are 0..{classes} and {IGNORE}"
        return _Seen(("labels have ids out of range", words))
    shown = values - {BACKGROUND, IGNORE}
    present = {int(k) + 1 for k in np.flatnonzero(dataset.labels(image_id))}
    strange = f"{image_id}: the label shows the ids {sorted(shown)}, the image has {sorted(present)}"
    overlap = (0, 0, 0) if mask is None or mask.shape != label.shape else _shared(label, mask)
    return _Seen(("", ""), bool(shown), strange if shown and not shown & present else "", *overlap)


def _shared(label: UInt8[np.ndarray, "h w"], mask: UInt8[np.ndarray, "h w"]) -> tuple[int, int, int]:
    """Pixels with the same class in both, with a class in one of them, where neither ignores them; and those of
    objects in the mask that the label ignores."""
    counted = (mask != IGNORE) & (label != IGNORE)
    object_here = (mask != IGNORE) & (mask != BACKGROUND)
    in_mask = counted & object_here
    either = in_mask | (counted & (label != BACKGROUND))
    return int((in_mask & (label == mask)).sum()), int(either.sum()), int((object_here & (label == IGNORE)).sum())


def _overlap(both: int = 0, either: int = 0, undecided: int = 0) -> float | None:
    """None where there is no object to tell by, or where the labels leave most of the objects open."""
    decided = either >= DECIDED_SHARE * (either + undecided)
    return both / either if either and decided else None


def _too_good(share: float) -> str:
    return (
        f"the pseudo-labels are the ground truth: their objects and those of the masks overlap by {share:.2%} "
        "(intersection over union); a segmenter trained on them is fully supervised. Give labels made from CAMs"
    )
