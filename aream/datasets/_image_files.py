"""A dataset of a published layout: all that does not depend on how its folders, lists and labels are called."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int16, UInt8

from aream.data.files import refuse_link_out, unreadable
from aream.data.findings import Check, Findings
from aream.data.images import indices
from aream.data.lists import ImageList, read_split
from aream.datasets._image_files_config import ImageFilesConfig
from aream.datasets._label_files import Labels, find_labels
from aream.datasets._stored_images import StoredImages
from aream.errors import DataError
from aream.metrics import IGNORE


class ImageFiles(StoredImages):
    """Everything of :class:`aream.data.dataset.Dataset`, given what the classes are called and where the files lie.

    A subclass says in ``LISTS`` and ``LABEL_FILES`` what lists and label files are usually called. In ``read`` it sets
    ``splits`` and ``mask_ids``, and calls :meth:`keep_existing` and :meth:`keep_labelled`. What these find stays
    ``found``; with strict findings they raise it.
    """

    config: ImageFilesConfig
    LISTS: ClassVar[Mapping[str, Sequence[str]]]
    LABEL_FILES: ClassVar[Sequence[str]]
    mask_ids: Int16[np.ndarray, " values"]
    """Class id of every value of a mask PNG; -1: it may not occur."""

    def __init__(self, config: ImageFilesConfig, found: Findings | None = None) -> None:
        """Read lists and labels and see that the files exist.

        Args:
            found: is told what is wrong, and the dataset is without what is unusable; None: that is an error.

        Raises:
            DataError: listing what is missing, or nothing is usable.
        """
        self.config, self.root = config, Path(config.root)
        self.read(Findings(strict=True) if found is None else found)

    @abstractmethod
    def read(self, found: Findings) -> None: ...

    @abstractmethod
    def places(self) -> Sequence[Path]:
        """Return the folders where lists and label files are looked for."""

    @abstractmethod
    def mask_path(self, image_id: str) -> Path:
        """Return where the image's mask would be."""

    @property
    def scored_classes(self) -> Sequence[int]:
        return self.config.scored_classes or range(len(self.class_names) + 1)

    def read_list(
        self, split: str, found: Findings, rename: Callable[[str], str | None] = lambda name: name, classes: int = 0
    ) -> ImageList:
        """Read the split's list by :func:`aream.data.lists.read_split`."""
        chosen = self.config.train_list if split == "train" else self.config.val_list
        return read_split(chosen, self.LISTS[split], self.places(), found, split, rename, classes)

    def labels_path(self) -> Path | None:
        return find_labels(self.config.labels_file, self.LABEL_FILES, self.places())

    def keep_existing(self, found: Findings) -> set[str]:
        """Leave out ids without an image, val ids without a mask, and those of links that lead out of the root.
        Returns the ids with a mask."""
        listings: dict[Path, set[str]] = {}
        masked: set[str] = set()
        for split, ids in self.splits.items():
            kept = []
            for image_id in ids:
                image, mask = self.image_path(image_id), self.mask_path(image_id)
                if self._leads_out("images", image, found, split):
                    continue
                if not _listed(image, listings):
                    words = f"{image}: no such image, though a list names it"
                    found.add("images", "listed images are missing", words, split)
                    continue
                if self._leads_out("masks", mask, found, split):
                    continue
                if _listed(mask, listings):
                    masked.add(image_id)
                elif split == "val":
                    found.add("masks", "val images have no mask", f"{mask}: no mask for this val image", split)
                    continue
                kept.append(image_id)
            found.notes.append(("masks", split, f"{len(masked.intersection(kept))} of {len(kept)} images have one"))
            self.splits[split] = kept
        found.settle()
        return masked

    def _leads_out(self, check: Check, path: Path, found: Findings, split: str) -> bool:
        try:
            refuse_link_out(path, (self.root, path.parent))
        except DataError as error:
            found.add(check, "files are links that lead out of the root, or nowhere", error, split)
            return True
        return False

    def keep_labelled(self, labels: Mapping[str, Labels], found: Findings, where: Mapping[str, str]) -> None:
        """Take over the labels, and leave out ids without.

        Args:
            labels: of each split, by image id.
            where: they are from.
        """
        for split, ids in self.splits.items():
            kept = [image_id for image_id in ids if image_id in labels[split]]
            known = f"; it names {next(iter(labels[split]), 'no image')}, say"
            for image_id in ids if len(kept) < len(ids) else ():
                if image_id not in labels[split]:
                    words = f"{where[split]}: no labels for {image_id}{known}"
                    found.add("labels", "images have no labels", words, split)
            self.splits[split] = kept
            found.notes.append(("labels", split, f"from {where[split]}"))
        found.settle()
        table = {image_id: labels[split][image_id] for split, ids in self.splits.items() for image_id in ids}
        self.take_labels(table)

    def class_ids(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        stored = indices(path, content)
        mask = self.mask_ids[stored]
        if mask.size and mask.min() < 0:
            wrong = np.unique(stored[mask < 0])
            allowed = np.flatnonzero(self.mask_ids >= 0)
            raise DataError(
                f"{path}: label ids {wrong[:8].tolist()} are out of range; allowed are {_ranges(allowed.tolist())}"
            )
        return mask.astype(np.uint8)


def contiguous_ids(classes: int) -> Int16[np.ndarray, " values"]:
    """Mask values that are class ids: the background 0, 1..classes and ``IGNORE``."""
    ids = np.full(256, -1, dtype=np.int16)
    ids[: classes + 1] = np.arange(classes + 1)
    ids[IGNORE] = IGNORE
    return ids


def _listed(path: Path, listings: dict[Path, set[str]]) -> bool:
    """Return True if there is such a file; a folder is asked once, however many of its files are in question."""
    if path.parent not in listings:
        listings[path.parent] = listed_names(path.parent)
    return path.name in listings[path.parent]


def listed_names(folder: Path) -> set[str]:
    """Names in a folder; none where it is missing.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return {path.name for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise unreadable(folder, error) from error


def _ranges(numbers: Sequence[int]) -> str:
    """``0..20 and 255`` of ascending numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    texts = ["..".join(str(end) for end in run) for run in runs]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
