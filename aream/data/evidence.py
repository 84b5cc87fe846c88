"""Evidence of masks: whether they show enough to make a figure or a choice from, and what a sweep wants of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aream.data.dataset import Dataset
from aream.data.findings import Findings
from aream.errors import DataError
from aream.metrics import IGNORE, LEAST_CLASSES

TOO_FEW = "masks show too few classes to take a mean over"
NO_TRAIN_MASK = "no train image has a mask"
NO_VAL_MASK = "no val image has a mask"


@dataclass(frozen=True)
class Use:
    """Use that a sweep makes of a dataset's masks; empty: no sweep is asked about."""

    searched: tuple[str, ...] = ()
    """Keys with their values that search or score on masks of train images, such as
    ``labels.background_threshold: auto``."""
    held_out: bool = False
    """True if a threshold is searched on a fifth of the train masks and scored on the rest."""
    scored: tuple[str, ...] = ()
    """Keys that score on masks of val images, such as ``segmentation``."""
    instead: tuple[str, ...] = ()
    """Choices that need no masks, in words."""


NO_SWEEP = Use()


@dataclass
class _Shown:
    masks: int = 0
    scored: set[int] = field(default_factory=set)
    values: set[int] = field(default_factory=set)
    """Everything that was found, 255 too."""


def is_held_out(image_id: str) -> bool:
    """Return True for one image in five, the same ones whatever the list's order."""
    return hashlib.sha256(image_id.encode()).digest()[0] % 5 == 0


def check_evidence(dataset: Dataset, found: Findings, use: Use) -> None:
    """Add what cannot be made of the masks. Reads no further than to the second class that a split shows."""
    train = list(dataset.ids("train"))
    parts = {"train": ("the train masks", train), "val": ("the val masks", list(dataset.ids("val")))}
    for split, (name, ids) in parts.items():
        _check_part(dataset, found, split, name, ids)
    if parts["val"][1] and not _shown(dataset, parts["val"][1]).masks:
        _refuse_unscored(found, use)
    if train and not _shown(dataset, train).masks:
        _refuse_maskless(found, use)
    elif use.held_out:
        folds = {"in the held-out fifth of the train images": filter(is_held_out, train)}
        folds["in the train images that are not held out"] = filter(lambda one: not is_held_out(one), train)
        for name, fold in folds.items():
            _check_part(dataset, found, "train", f"the masks {name}", fold, advice=use.instead)


def _refuse_maskless(found: Findings, use: Use) -> None:
    for key in use.searched:
        words = f"{key} needs masks of train images"
        found.add("masks", NO_TRAIN_MASK, "; ".join([words, *use.instead]), "train")
    if not use.searched:
        words = "no figure is made of train images; labels.background_threshold must be otsu, edges or a number"
        found.add("masks", NO_TRAIN_MASK, words, "train", hard=False)


def _refuse_unscored(found: Findings, use: Use) -> None:
    for key in use.scored:
        found.add("masks", NO_VAL_MASK, f"{key} needs masks of val images; leave it out", "val")
    if not use.scored:
        found.add("masks", NO_VAL_MASK, "no segmenter can be scored", "val", hard=False)


def _check_part(
    dataset: Dataset, found: Findings, split: str, name: str, ids: Iterable[str], advice: Sequence[str] = ()
) -> None:
    """Args: advice: what needs no such masks; then no mask at all is wrong too."""
    shown = _shown(dataset, ids)
    if len(shown.scored) >= LEAST_CLASSES or not (shown.masks or advice):
        return
    if not shown.masks:
        found.add("masks", TOO_FEW, "; ".join([f"{name}: there is none", *advice]), split)
        return
    words = f"{name} show {_named(dataset, sorted(shown.scored))} of the scored classes, their values are " + (
        ", ".join(map(str, sorted(shown.values)[:20]))
    )
    if IGNORE in shown.values and shown.values <= {0, IGNORE}:
        words += f"; {IGNORE} is ignored: an object has the number of its class"
    found.add("masks", TOO_FEW, "; ".join([f"{words}; need {LEAST_CLASSES} or more", *advice]), split)


def _named(dataset: Dataset, ids: Sequence[int]) -> str:
    names = ["background", *dataset.class_names]
    return f"only {', '.join(names[k] for k in ids)}" if ids else "none"


def _shown(dataset: Dataset, ids: Iterable[str]) -> _Shown:
    """Classes that the masks show, up to the second scored one; what cannot be read is told elsewhere."""
    shown, scored = _Shown(), set(dataset.scored_classes)
    for image_id in ids:
        try:
            mask = dataset.mask(image_id)
        except DataError:
            continue
        if mask is None:
            continue
        shown.masks += 1
        shown.values |= {int(value) for value in np.unique(mask)}
        shown.scored = shown.values & scored
        if len(shown.scored) >= LEAST_CLASSES:
            break
    return shown
