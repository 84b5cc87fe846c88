"""MS COCO 2014 for semantic segmentation, in every layout and with every list, label and mask that published code uses.

Images lie in ``{train2014,val2014}``, ``JPEGImages/{train,val}`` or ``JPEGImages/{train2014,val2014}``, masks in
``SegmentationClass/{train,val}`` or ``SegmentationClass/{train2014,val2014}``, as ``COCO_train2014_000000000009.png``
or ``000000000009.png``; all of it under the root or in its folder ``coco2014``. ``coco2017`` has the same under other
names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int16

from aream.config import config
from aream.data.findings import SPLITS, Findings
from aream.data.images import read_indices
from aream.data.lists import ImageList
from aream.datasets._coco_annotations import read_instances
from aream.datasets._coco_classes import CATEGORY_IDS, CLASS_NAMES, category_ids
from aream.datasets._image_files import ImageFiles, contiguous_ids, listed_names
from aream.datasets._image_files_config import ImageFilesConfig
from aream.datasets._label_files import Labels, read_label_table
from aream.errors import DataError, DataUnavailable

LIST_FOLDERS = (".", "ImageSets", "ImageSets/Segmentation")
ID = re.compile(r"COCO_(train|val)2014_([0-9]{12})")
SAMPLED_MASKS = 32
FIRST_TELLING = next(k for k, number in enumerate(CATEGORY_IDS) if number > len(CLASS_NAMES))
"""The first class that COCO's annotations call by a number above 80."""


def list_names(year: str) -> dict[str, tuple[str, ...]]:
    """What lists of each split are usually called."""
    return {
        split: tuple(name.format(split) for name in ("{}.txt", "{}_id.txt", "{}_labels.txt", f"{{}}{year}.txt"))
        for split in SPLITS
    }


@config
class Config(ImageFilesConfig):
    """``root`` is the folder that holds train2014 and val2014, or JPEGImages, or coco2014. Lists are looked for in it,
    ImageSets and ImageSets/Segmentation, called train.txt, train_id.txt, train_labels.txt or train2014.txt and
    likewise for val; one of CLIP-ES's carries the labels too. Labels are those of the lists, else cls_labels.npy and
    its kin in the root, else annotations/instances_train2014.json and of val, which also stand for lists."""

    CLASSES = len(CLASS_NAMES)

    mask_ids: Literal["auto", "contiguous", "coco91"] = "auto"
    """Ids of class k of 0..79 in masks: ``contiguous`` k + 1; ``coco91`` the number of COCO's annotations, 1..90 with
    gaps; ``auto`` the latter where one of up to 32 masks, first of images with a class that tells, has a value in
    81..90. ``inspect`` refuses masks that then turn out to be of the other kind."""
    objectless: Literal["drop", "keep"] = "drop"
    """Images without any object: of the lists of 82,783 and 40,504 images (MCTformer and AReAM train on them) 702
    and 367. Dropped, 82,081 and 40,137 remain, the papers' protocol (AFA, MoRe)."""
    missing_labels: Literal["refuse", "objectless"] = "refuse"
    """Treatment of a listed image that the labels lack: a mistake, or an image without any object."""


class Coco2014(ImageFiles):
    """COCO 2014 in its own folders. Of the pixels only what tells ``mask_ids`` is read here."""

    config: Config
    class_names = CLASS_NAMES
    YEAR: ClassVar[str] = "2014"
    LISTS: ClassVar[Mapping[str, Sequence[str]]] = list_names(YEAR)
    LABEL_FILES = ("cls_labels.npy", "cls_labels_onehot.npy", "cls_labels.npz", "cls_labels_plain.npz")

    def read(self, found: Findings) -> None:
        self.image_folders, self.mask_folders = self._folders()
        lists = {split: self._list(split, found) for split in SPLITS}
        found.settle()
        self.splits = {split: list(lists[split].ids) for split in SPLITS}
        self.numbered = {part: _named_by_number(self.mask_folders[part]) for part in SPLITS}
        masked = self.keep_existing(found)
        labels, where = self._labels_from(lists)
        self._drop_objectless(labels, found)
        self.keep_labelled(labels, found, where)
        self.mask_ids = self._mask_ids(masked, found)

    def places(self) -> Sequence[Path]:
        return [self.root / base / folder for base in self._bases() for folder in LIST_FOLDERS]

    def part(self, image_id: str) -> str:
        """The part of COCO that an image lies in, train or val."""
        return "train" if image_id.startswith("COCO_train") else "val"

    def full_id(self, name: str, split: str) -> str | None:
        """The id of an image that a list of the split names; None: it is none."""
        return _full_id(name, split)

    def image_path(self, image_id: str) -> Path:
        return self.image_folders[self.part(image_id)] / f"{image_id}.jpg"

    def mask_path(self, image_id: str) -> Path:
        part = self.part(image_id)
        return self.mask_folders[part] / f"{_number(image_id) if self.numbered[part] else image_id}.png"

    def _folders(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return the folders of images and of masks, by the part of COCO that an id names."""
        year = self.YEAR
        for base in (self.root / name for name in self._bases()):
            images = {
                part: _first_folder(base, (f"{part}{year}", f"JPEGImages/{part}", f"JPEGImages/{part}{year}"))
                for part in SPLITS
            }
            if all(folder.is_dir() for folder in images.values()):
                masks = base / self.config.masks
                return images, {part: _first_folder(masks, (part, f"{part}{year}")) for part in SPLITS}
        raise DataError(
            f"data.root: {self.root} holds no images of COCO {year}; looked there and in its folder coco{year} for "
            f"{{train{year},val{year}}}, JPEGImages/{{train,val}} and JPEGImages/{{train{year},val{year}}}"
        )

    def _bases(self) -> tuple[str, str]:
        return ".", f"coco{self.YEAR}"

    def _list(self, split: str, found: Findings) -> ImageList:
        path = self._instead_of_list(split)
        if path is None:
            return self.read_list(split, found, lambda name: self.full_id(name, split), len(CLASS_NAMES))
        classes = {str(self.full_id(number, split)): present for number, present in read_instances(path).items()}
        found.notes.append(("lists", split, f"{len(classes)} images in {path}"))
        return ImageList(list(classes), classes)

    def _instead_of_list(self, split: str) -> Path | None:
        """COCO's annotations, where no list of the split was chosen and none is there."""
        chosen = self.config.train_list if split == "train" else self.config.val_list
        listed = any((place / name).is_file() for place in self.places() for name in self.LISTS[split])
        return None if chosen is not None or listed else self._annotations(split)

    def _annotations(self, part: str) -> Path | None:
        path = f"annotations/instances_{part}{self.YEAR}.json"
        return next((base / path for base in map(self.root.joinpath, self._bases()) if (base / path).is_file()), None)

    def _labels_from(self, lists: Mapping[str, ImageList]) -> tuple[dict[str, Labels], dict[str, str]]:
        """Labels of each split, and where they are from."""
        path = self.labels_path()
        bare = [split for split in SPLITS if lists[split].classes is None or self.config.labels_file is not None]
        files = [one for one in map(self._annotations, SPLITS) if one is not None]
        if bare and path is None and not files:
            raise DataError(
                f"{self.root}: no image labels; the {bare[0]} list has no classes beside its ids, and none of "
                f"{', '.join(self.LABEL_FILES)} and annotations/instances_*{self.YEAR}.json is there"
            )
        table: Labels = {}
        if bare and path is not None:
            table = read_label_table(path, len(CLASS_NAMES), _number)
        elif bare:
            table = {number: _one_hot(present) for one in files for number, present in read_instances(one).items()}
        source = str(path or " and ".join(map(str, files)))
        labels, where = {}, {}
        for split, ids in self.splits.items():
            classes = lists[split].classes
            if split in bare or classes is None:
                labels[split] = {one: table[_number(one)] for one in ids if _number(one) in table}
                where[split] = source
            else:
                labels[split] = {one: _one_hot(classes[one]) for one in ids}
                where[split] = str(self._instead_of_list(split) or "its list")
            if self.config.missing_labels == "objectless":
                labels[split] = {one: _one_hot(()) for one in ids} | labels[split]
        return labels, where

    def _drop_objectless(self, labels: Mapping[str, Labels], found: Findings) -> None:
        for split, ids in self.splits.items():
            empty = {one for one in ids if one in labels[split] and not labels[split][one].any()}
            dropped = self.config.objectless == "drop"
            if dropped:
                self.splits[split] = [one for one in ids if one not in empty]
            if empty:
                verb = "left out" if dropped else "kept"
                found.notes.append(("labels", split, f"{len(empty)} images without any object are {verb}"))

    def _mask_ids(self, masked: Collection[str], found: Findings) -> Int16[np.ndarray, " values"]:
        chosen: str = self.config.mask_ids
        if chosen == "auto":
            sample = islice(self._telling_first(masked), SAMPLED_MASKS)
            chosen = "coco91" if any(_beyond_contiguous(self.mask_path(one)) for one in sample) else "contiguous"
        found.notes.append(("masks", "", f"numbered as mask_ids {chosen}"))
        return category_ids() if chosen == "coco91" else contiguous_ids(len(CLASS_NAMES))

    def _telling_first(self, masked: Collection[str]) -> Iterator[str]:
        """Images that have a mask, first those with a class whose number in COCO's annotations is above 80."""
        every = [one for split in ("val", "train") for one in self.splits[split] if one in masked]
        telling = [one for one in every if self.labels(one)[FIRST_TELLING:].any()]
        yield from telling
        yield from every[:: max(1, len(every) // SAMPLED_MASKS)]


def _first_folder(base: Path, names: Sequence[str]) -> Path:
    """The first of the names that is a folder, else what the first says."""
    folders = [base / name for name in names]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _named_by_number(folder: Path) -> bool:
    """Return True if masks are called by their numbers alone, as MoRe has them."""
    names = listed_names(folder)
    return bool(names) and not any(name.startswith("COCO_") for name in names)


def _full_id(name: str, split: str) -> str | None:
    if ID.fullmatch(name):
        return name
    return f"COCO_{split}2014_{name:0>12}" if re.fullmatch("[0-9]{1,12}", name) else None


def _number(key: str | int) -> str:
    """The 12 digits of an id, unique in both parts of COCO, or of its number alone."""
    named = ID.fullmatch(key) if isinstance(key, str) else None
    digits = named[2] if named else f"{key:0>12}"
    if not re.fullmatch("[0-9]{12}", digits):
        raise ValueError(f"{str(key)[:80]!r} is not an image id of COCO")
    return digits


def _one_hot(classes: Sequence[int]) -> Float32[np.ndarray, " c"]:
    labels = np.zeros(len(CLASS_NAMES), dtype=np.float32)
    labels[list(classes)] = 1
    return labels


def _beyond_contiguous(path: Path) -> bool:
    """Return True if a mask has a value that only COCO's own numbers reach; a damaged one tells nothing here."""
    try:
        mask = read_indices(path)
    except DataUnavailable:
        raise
    except DataError:
        return False
    return bool(((mask > len(CLASS_NAMES)) & (mask <= CATEGORY_IDS[-1])).any())


build = survey = Coco2014
