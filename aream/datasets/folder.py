"""Any folder of images, with labels, masks and splits as people keep them; the sweep file says where and how.

Images, masks and tables are called relative to the root. Ids are made of file names alone, the val images are drawn by
them, and what is read is fingerprinted, however it was said: the same labels from a table, from XML or from a folder a
class are the same content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from aream.data.findings import MOST_PROBLEMS, SPLITS, Findings
from aream.datasets._folder.config import FROM_MASKS, Config, Labels, Masks, Split
from aream.datasets._folder.files import shown
from aream.datasets._folder.labels import name_finder, read_labels
from aream.datasets._folder.pairs import find_pairs
from aream.datasets._folder.proposal import as_config, candidates, with_names
from aream.datasets._folder.splits import split_images
from aream.datasets._folder.unlabelled import Unlabelled
from aream.datasets._stored_images import StoredImages
from aream.errors import ConfigError, DataError, DataUnavailable

ORDER = "the classes are in the order of the labels: see that it is the order of the masks' ids or colours"

__all__ = ["Config", "Folder", "Labels", "Masks", "Split", "Unlabelled", "build", "propose", "survey"]


@dataclass(frozen=True)
class Proposal:
    settings: Mapping[str, Any]
    """Of a sweep file's ``data``, without name and root."""
    remarks: Sequence[str]
    """What a person should look at."""
    dataset: Folder
    found: Findings


def propose(root: Path) -> Proposal:
    """Look at a folder and find settings that read as many of its images as can be.

    Raises:
        DataError: there is no image, or nothing that could be a label.
    """
    seen = candidates(root)
    proposals, refusals = [], []
    for settings in seen.settings:
        remarks = list(seen.remarks)
        try:
            if not seen.named and "classes" in settings and settings["labels"] != FROM_MASKS:
                bare = {key: value for key, value in settings.items() if key not in ("classes", "masks")}
                names = Folder(as_config(root, bare)).class_names
                if len(names) == len(settings["classes"]):
                    settings = with_names(settings, names)
                    remarks = [ORDER] if len(names) > 1 else []
            found = Findings()
            dataset = Folder(as_config(root, settings), found)
            for path in seen.outside:
                found.add("images", "pictures lie outside of data.images and data.masks", shown(path), hard=False)
        except DataUnavailable:
            raise
        except (DataError, ConfigError, ValueError) as error:
            refusals.append(f"{settings['labels']}: {error}")
        else:
            proposals.append(Proposal(settings, remarks, dataset, found))
    if not proposals:
        tried = "; ".join(refusals[:MOST_PROBLEMS]) or "no table, XML, folders of classes or masks"
        raise DataError(f"{root}: nothing labels the images: {tried}")
    return max(
        proposals, key=lambda one: (not one.found.hard, len(one.dataset.ids("train")) + len(one.dataset.ids("val")))
    )


class Folder(StoredImages):
    """Pixels are read by ``inspect``; those of masks already here, where labels come from them."""

    def __init__(self, config: Config, found: Findings | None = None) -> None:
        """Args and errors are those of :class:`aream.datasets._image_files.ImageFiles`."""
        self.config, self.root = config, Path(config.root)
        found = Findings(strict=True) if found is None else found
        if not self.root.is_dir():
            raise DataError(f"data.root: {self.root}: no such folder")
        self._pairs = find_pairs(self.root, config, found)
        labelled = read_labels(self.root, config, self._pairs, found)
        found.settle()
        if not labelled.vectors:
            image = next(iter(self._pairs.images.values()), "none")
            raise DataError(
                f"{labelled.source}: labels none of the {len(self._pairs.images)} images, such as {shown(image)}"
            )
        self.class_names: Sequence[str] = labelled.classes.names
        self._reader = labelled.reader
        beyond = [number for number in self.scored_classes if number > len(self.class_names)]
        if beyond:
            raise DataError(f"data.scored_classes: {beyond[0]} is no mask id; need 0..{len(self.class_names)}")
        find = name_finder(self.root, self._pairs)
        splits = split_images(self.root, config.split, self._pairs, labelled.splits, find, found)
        self.splits = {split: self._usable(split, splits[split], labelled.vectors, found) for split in SPLITS}
        found.settle()
        self.take_labels({one: labelled.vectors[one] for split in SPLITS for one in self.splits[split]})
        for split in SPLITS:
            found.notes.append(("labels", split, f"from {labelled.source}"))
        found.notes.append(("labels", "", f"classes {', '.join(map(shown, self.class_names))}"))
        self.left_out: Mapping[str, str] = dict(found.left_out)

    @property
    def scored_classes(self) -> Sequence[int]:
        return self.config.scored_classes or range(len(self.class_names) + 1)

    @property
    def meaning(self) -> bytes:
        """The names of the classes, which no code says."""
        return json.dumps(list(self.class_names)).encode()

    def image_path(self, image_id: str) -> Path:
        return self.root / self._pairs.images[image_id]

    def mask_path(self, image_id: str) -> Path | None:
        path = self._pairs.masks.get(image_id)
        return None if path is None else self.root / path

    def class_ids(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        assert self._reader is not None
        return self._reader.read(path, content)

    def identity_of(self, content: bytes, mask: UInt8[np.ndarray, "h w"]) -> bytes:
        """Digest of the ids: the same drawn in colours or as numbers."""
        return hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).digest()

    def _usable(self, split: str, ids: Sequence[str], vectors: Mapping[str, object], found: Findings) -> list[str]:
        """Those with labels, and of val those with a mask, where there are masks."""
        refuse, kept = self.config.missing == "refuse", []
        for one in ids:
            path = shown(self._pairs.images[one])
            lacks = "labels" if one not in vectors else "mask" if split == "val" and self._lacks_mask(one) else ""
            if not lacks:
                kept.append(one)
            elif refuse:
                found.add("labels" if lacks == "labels" else "masks", f"images have no {lacks}", path, split)
            else:
                kind = "images have no labels" if lacks == "labels" else "val images have no mask"
                found.leave_out("labels" if lacks == "labels" else "masks", kind, path)
        masked = sum(one in self._pairs.masks for one in kept)
        found.notes.append(("masks", split, f"{masked} of {len(kept)} images have one"))
        return kept

    def _lacks_mask(self, image_id: str) -> bool:
        return bool(self._pairs.masks) and image_id not in self._pairs.masks


build = survey = Folder
