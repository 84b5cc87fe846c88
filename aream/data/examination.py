"""Examination of any dataset, whatever lies on the disk: its own protocol is asked, image by image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from aream.data.dataset import Dataset
from aream.data.evidence import NO_SWEEP, Use, check_evidence
from aream.data.findings import SPLITS, Check, Findings, Looked
from aream.data.reading import in_threads
from aream.errors import DataError
from aream.metrics import IGNORE

UNSEEN_SHARE = 0.10
"""Share of the images with a mask beyond which labels without any pixel are not the usual ones. VOC's "difficult"
objects, which have labels and no mask, are in about 4 %."""
UNLABELLED_SHARE = 0.01
"""Share of the images with a mask up to which large objects that only the mask has are slips of who drew it."""
LARGE = 0.05
"""Share of an image's pixels below which an object may be hidden or overlooked, and so be no label."""
STRANGE_SHARE = 0.5
"""Share of the images with a mask beyond which masks and labels that have no class in common do not belong together."""
READER = b"images upright, 2"
"""Part of a content's identity: what is seen of the same bytes changes with how they are read."""
UNMASKED = "val images have no mask"
"""Of some of them; that none has one is told by what the masks are used for."""
SAID_EVERY = 10_000


@dataclass(frozen=True)
class _Problem:
    check: Check
    kind: str
    words: str | DataError
    hard: bool = True


@dataclass(frozen=True)
class _Seen:
    """Finds in one image."""

    problems: Sequence[_Problem]
    masked: bool = False
    unlabelled: str = ""
    """Classes of its mask that its label lacks."""
    large: bool = False
    """True if one of them is large."""
    unseen: str = ""
    """Classes of its label that its mask has no pixel of."""
    strange: str = ""
    """Classes of label and mask, where they have none in common."""
    image: bytes = b""
    """Digest of the image as it is stored."""
    content: bytes = b""
    """Digests of image and mask."""


def examine(
    dataset: Dataset,
    found: Findings,
    *,
    sample: int | None,
    use: Use = NO_SWEEP,
    say: Callable[[str], None] = lambda words: None,
) -> dict[str, bytes]:
    """Look at all ids and labels, and at the images and masks of a sample.

    Args:
        sample: images of each split, evenly spaced; None: all.
        use: what a sweep wants of the masks.
        say: is told now and then how far it is.

    Returns:
        Digests of the images looked at and their masks, by id.
    """
    _check_ids(dataset, found)
    images: dict[str, dict[bytes, str]] = {split: {} for split in SPLITS}
    digests: dict[str, bytes] = {}
    for split in SPLITS:
        ids = list(dict.fromkeys(dataset.ids(split)))
        labelled = _check_labels(dataset, split, ids, found)
        chosen = labelled if sample is None else _evenly(labelled, sample)
        look = functools.partial(_look, dataset, split)
        seen: dict[str, _Seen] = {}
        for image_id, one in zip(chosen, in_threads(look, chosen), strict=True):
            seen[image_id] = one
            images[split].setdefault(one.image, image_id)
            digests[image_id] = one.content
            if len(seen) % SAID_EVERY == 0:
                say(f"{split}: {len(seen)} of {len(chosen)} images decoded")
        masks = sum(one.masked for one in seen.values())
        for problem in (problem for one in seen.values() for problem in one.problems):
            if masks or problem.kind != UNMASKED:
                found.add(problem.check, problem.kind, problem.words, split, hard=problem.hard)
        found.looked += [Looked("images", split, len(chosen), len(ids)), Looked("masks", split, masks, len(ids))]
        if len(chosen) < len(labelled):
            found.notes.append(("images", split, "a sample is decoded; a sweep looks at all, as --deep does"))
        _compare_all(seen, masks, split, found)
    for digest in images["train"].keys() & images["val"].keys() - {b""}:
        first, second = images["train"][digest], images["val"][digest]
        if first != second:
            found.add("images", "val images are train images of another name", f"{second} is {first}", hard=False)
    check_evidence(dataset, found, use)
    return digests


def inspect(dataset: Dataset) -> str:
    """Everything read once and held against every rule: the content's identity (hex sha256 over ids, labels, images
    and masks), whatever place it lies in.

    Raises:
        DataError: what :func:`examine` finds hard, up to 20 problems in words.
    """
    return identify(dataset, Findings(strict=True))


def identify(dataset: Dataset, found: Findings) -> str:
    """The same; what is only worth knowing stays ``found``."""
    digests, every = examine(dataset, found, sample=None), hashlib.sha256(READER)
    found.settle()
    every.update(getattr(dataset, "meaning", b""))
    for split in SPLITS:
        ids = dataset.ids(split)
        every.update(f"{split}\n{chr(10).join(ids)}\n".encode())
    for image_id, digest in digests.items():
        every.update(image_id.encode() + dataset.labels(image_id).tobytes() + digest)
    return every.hexdigest()


def _check_ids(dataset: Dataset, found: Findings) -> None:
    for split in SPLITS:
        ids = dataset.ids(split)
        found.looked.append(Looked("lists", split, len(ids), len(ids)))
        if not ids and not found.hard:
            found.add("lists", "split has no usable image", f"{split}: no image", split)
        for image_id, count in Counter(ids).items():
            if count > 1:
                found.add("lists", "ids come again", f"{image_id}: {count} times", split)
    val = set(dataset.ids("val"))
    for image_id in dict.fromkeys(dataset.ids("train")):
        if image_id in val:
            found.add("lists", "images are in train and in val", image_id)


def _check_labels(dataset: Dataset, split: str, ids: Sequence[str], found: Findings) -> list[str]:
    """The ids whose labels can be used."""
    shape = (len(dataset.class_names),)
    present = np.zeros(shape, dtype=np.int64)
    usable = []
    for image_id in ids:
        try:
            labels = dataset.labels(image_id)
        except DataError as error:
            found.add("labels", "labels cannot be read", error, split)
            continue
        if labels.shape != shape or not np.isin(labels, (0, 1)).all():
            words = f"{image_id}: need {shape[0]} zeros and ones, got shape {labels.shape}"
            found.add("labels", "labels are not zeros and ones", words, split)
            continue
        usable.append(image_id)
        present += labels > 0
        if not labels.any():
            found.add("labels", "images have no class", image_id, split, hard=False)
    found.looked.append(Looked("labels", split, len(ids), len(ids)))
    scored = [mask_id - 1 for mask_id in dataset.scored_classes if mask_id > 0]
    if usable and not present[scored].any():
        names = ", ".join(dataset.class_names[k] for k in scored[:20])
        words = f"none of {len(usable)} labels holds one of the scored classes {names}"
        found.add("labels", "no image has a scored class", words, split)
    for name, count in zip(dataset.class_names, present, strict=True):
        if ids and count == 0:
            found.add("labels", "classes are in no image", name, split, hard=False)
    return usable


def _look(dataset: Dataset, split: str, image_id: str) -> _Seen:
    try:
        size, image = dataset.look_at_image(image_id)
    except DataError as error:
        return _Seen([_Problem("images", "images do not decode", error)])
    try:
        looked = dataset.look_at_mask(image_id)
    except DataError as error:
        return _Seen([_Problem("masks", "masks cannot be used", error)], image=image)
    if looked is None:
        missing = [_Problem("masks", UNMASKED, image_id)] if split == "val" else []
        return _Seen(missing, image=image, content=image)
    mask, digest = looked
    if mask.shape != size[::-1]:
        words = f"{image_id}: the mask is {mask.shape[1]} x {mask.shape[0]}, the image {size[0]} x {size[1]}"
        if mask.shape == size:
            words += ", as viewers show it; one of them is turned"
        return _Seen([_Problem("masks", "masks have another size than their image", words)], masked=True, image=image)
    seen = _compare(dataset, image_id, np.bincount(mask.reshape(-1), minlength=256) / mask.size)
    return dataclasses.replace(seen, image=image, content=image + digest)


def _compare(dataset: Dataset, image_id: str, shares: Float64[np.ndarray, " values"]) -> _Seen:
    """The mask against the label.

    Args:
        shares: of the pixels, that have each of the 256 values.
    """
    names = dataset.class_names
    wrong = [int(value) for value in np.flatnonzero(shares) if len(names) < value < IGNORE]
    if wrong:
        words = f"{image_id}: mask ids {wrong[:8]}; allowed are 0..{len(names)} and {IGNORE}"
        return _Seen([_Problem("masks", "masks have ids out of range", words)], masked=True)
    of_classes = shares[1 : len(names) + 1]
    in_label, in_mask = dataset.labels(image_id) > 0, of_classes > 0
    unlabelled = np.flatnonzero(in_mask & ~in_label).tolist()
    unseen = np.flatnonzero(~in_mask & in_label).tolist()
    label, mask = (", ".join(names[int(k)] for k in np.flatnonzero(which)) or "none" for which in (in_label, in_mask))
    apart = not (in_mask & in_label).any() and (in_mask | in_label).any()
    return _Seen(
        [_Problem("masks", "masks are all ignored", image_id, hard=False)] if shares[IGNORE] == 1 else [],
        masked=True,
        unlabelled=", ".join(names[k] for k in unlabelled),
        large=bool((of_classes[unlabelled] >= LARGE).any()),
        unseen=", ".join(names[k] for k in unseen),
        strange=f"{label} in the label, {mask} in the mask" if apart else "",
    )


def _compare_all(seen: Mapping[str, _Seen], masks: int, split: str, found: Findings) -> None:
    """Masks and labels differ in a few images of every set; in many where they do not belong together."""
    strange = {image_id: one.strange for image_id, one in seen.items() if one.strange}
    if len(strange) > STRANGE_SHARE * masks:
        for image_id, words in strange.items():
            found.add("labels", "images have no class in both label and mask", f"{image_id}: {words}", split)
    hard = sum(one.large for one in seen.values()) > UNLABELLED_SHARE * masks
    for image_id, one in seen.items():
        if one.unlabelled:
            kind = "images have a class in their mask that their label lacks"
            found.add("labels", kind, f"{image_id}: {one.unlabelled}", split, hard=hard)
    unseen = {image_id: one.unseen for image_id, one in seen.items() if one.unseen}
    kind = "images have a class in their label that their mask lacks"
    if len(unseen) > UNSEEN_SHARE * masks:
        for image_id, names in unseen.items():
            found.add("labels", kind, f"{image_id}: {names}", split, hard=False)
    elif unseen:
        share = f"{len(unseen) / masks:.1%}; in VOC about 4 % do, for objects too difficult to draw"
        found.notes.append(("labels", split, f"{len(unseen)} of {masks} {kind} ({share})"))


def _evenly(ids: Sequence[str], count: int) -> list[str]:
    return [ids[index] for index in np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]
