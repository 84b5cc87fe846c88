"""PASCAL VOC 2012 in its own layout, with every list and label format that published code comes with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from aream.config import config, location
from aream.data._files import read_bounded, read_image, read_indices, refuse_link_out
from aream.data._protocol import IGNORE
from aream.data._voc_labels import CLASS_NAMES, Labels, read_annotations, read_label_file
from aream.errors import ConfigError, DataError

TRAIN_LISTS = (
    "train_aug.txt",
    "train_aug_id.txt",
    "train_aug(id).txt",
    "trainaug.txt",
    "train.txt",
    "train_id.txt",
)
VAL_LISTS = ("val.txt", "val_id.txt")
LABEL_FILES = ("cls_labels.npy", "cls_labels_plain.npz", "cls_labels_onehot.npy")
LISTS_FOLDER = Path("ImageSets") / "Segmentation"
MOST_PROBLEMS = 20
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
READERS = 4


@config
class Config:
    root: str = location()
    """The folder that holds JPEGImages and ImageSets (VOCdevkit/VOC2012)."""
    masks: str = "SegmentationClass"
    """Folder of the mask PNGs under the root, such as SegmentationClassAug."""
    train_list: str | None = location(None)
    """List of train ids, a path or a name in ImageSets/Segmentation; null: the augmented list, else train.txt."""
    val_list: str | None = location(None)
    """List of val ids; null: val.txt."""
    labels_file: str | None = location(None)
    """Image-level labels; null: cls_labels.npy and its kin under the root, else Annotations/*.xml."""
    scored_classes: tuple[int, ...] | None = None
    """Mask ids over which the headline mIoU is averaged, 0 is background; null: all 21."""

    def __post_init__(self) -> None:
        scored = self.scored_classes
        if scored is not None and (
            not scored or len(set(scored)) != len(scored) or not all(0 <= c <= len(CLASS_NAMES) for c in scored)
        ):
            raise ConfigError(f"scored_classes: need different mask ids in 0..{len(CLASS_NAMES)}, got {list(scored)}")
        folder = Path(self.masks)
        if not folder.parts or folder.is_absolute() or ".." in folder.parts:
            raise ConfigError(f"masks: need the name of a folder under the root, got {self.masks!r}")


def build(config: Config) -> Voc2012:
    """Read lists and labels and see that the files exist; pixels are read by ``inspect``.

    Raises:
        DataError: listing what is missing.
    """
    return Voc2012(config)


class Voc2012:
    def __init__(self, config: Config) -> None:
        self.config, self.root = config, Path(config.root)
        if not (self.root / "JPEGImages").is_dir():
            raise DataError(f"data.root: {self.root} holds no JPEGImages; need the folder VOCdevkit/VOC2012 or alike")
        self.splits = {
            "train": self._list(config.train_list, TRAIN_LISTS),
            "val": self._list(config.val_list, VAL_LISTS),
        }
        every = [*dict.fromkeys([*self.splits["train"], *self.splits["val"]])]
        _raise_all(self._missing(every))
        self.label_table = self._labels(every)

    @property
    def class_names(self) -> Sequence[str]:
        return CLASS_NAMES

    @property
    def scored_classes(self) -> Sequence[int]:
        return self.config.scored_classes or range(len(CLASS_NAMES) + 1)

    def ids(self, split: str) -> Sequence[str]:
        return self.splits[split]

    def image(self, image_id: str) -> Image.Image:
        return read_image(self._image_path(image_id))

    def labels(self, image_id: str) -> Float32[np.ndarray, " c"]:
        return self.label_table[image_id]

    def mask(self, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
        path = self._mask_path(image_id)
        return _read_mask(path) if path.exists() else None

    def inspect(self) -> str:
        """See :class:`aream.data._protocol.Dataset`; the root's place does not enter the fingerprint."""
        digest = hashlib.sha256()
        every = [*dict.fromkeys([*self.splits["train"], *self.splits["val"]])]
        with ThreadPoolExecutor(READERS) as pool:
            results = list(pool.map(self._inspect_one, every))
        _raise_all(problem for _, problem in results if problem)
        for split, ids in self.splits.items():
            digest.update(f"{split}\n{chr(10).join(ids)}\n".encode())
        for identifier, (content, _) in zip(every, results, strict=True):
            digest.update(identifier.encode() + self.labels(identifier).tobytes() + content)
        return digest.hexdigest()

    def _inspect_one(self, image_id: str) -> tuple[bytes, str | None]:
        try:
            image_path, mask_path = self._image_path(image_id), self._mask_path(image_id)
            refuse_link_out(image_path, (self.root, image_path.parent))
            size = read_image(image_path).size
            content = hashlib.sha256(image_path.read_bytes()).digest()
            if mask_path.exists():
                refuse_link_out(mask_path, (self.root, mask_path.parent))
                mask = _read_mask(mask_path)
                if mask.shape != (size[1], size[0]):
                    return b"", f"{mask_path}: size {mask.shape[::-1]} is not the image's {size}"
                content += hashlib.sha256(mask_path.read_bytes()).digest()
        except DataError as error:
            return b"", str(error)
        return content, None

    def _image_path(self, image_id: str) -> Path:
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def _mask_path(self, image_id: str) -> Path:
        return self.root / self.config.masks / f"{image_id}.png"

    def _list(self, chosen: str | None, usual: Sequence[str]) -> list[str]:
        folder = self.root / LISTS_FOLDER
        if chosen is not None:
            candidates = [Path(chosen), folder / Path(chosen).name]
        else:
            candidates = [folder / name for name in usual]
        for path in candidates:
            if path.is_file():
                return _read_list(path)
        raise DataError(f"no list of image ids: looked for {', '.join(str(path) for path in candidates)}")

    def _missing(self, ids: Sequence[str]) -> Iterable[str]:
        val = set(self.splits["val"])
        for image_id in ids:
            if not self._image_path(image_id).is_file():
                yield f"{self._image_path(image_id)}: no such image, though a list names it"
            if image_id in val and not self._mask_path(image_id).is_file():
                yield f"{self._mask_path(image_id)}: no mask for this val image"

    def _labels(self, ids: Sequence[str]) -> Labels:
        if self.config.labels_file is not None:
            path: Path | None = Path(self.config.labels_file)
        else:
            path = next((self.root / name for name in LABEL_FILES if (self.root / name).is_file()), None)
        if path is None:
            if not (self.root / "Annotations").is_dir():
                raise DataError(f"{self.root}: no image labels; looked for {', '.join(LABEL_FILES)} and Annotations")
            return read_annotations(self.root / "Annotations", ids)
        table = read_label_file(path)
        _raise_all(f"{path}: no labels for {image_id}" for image_id in ids if image_id not in table)
        return {image_id: table[image_id] for image_id in ids}


def _read_list(path: Path) -> list[str]:
    """Bare ids, or lines such as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``."""
    try:
        lines = read_bounded(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as a list of ids ({error})") from error
    ids: dict[str, int] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        first = line.split()[0]
        identifier = Path(first).stem if "/JPEGImages/" in f"/{first}" else first
        if not SAFE_ID.fullmatch(identifier) or ".." in identifier:
            problems.append(f"{path}:{number}: {line[:80]!r} is not an image id")
        elif identifier in ids:
            problems.append(f"{path}:{number}: {identifier} stands on line {ids[identifier]} already")
        else:
            ids[identifier] = number
    _raise_all(problems)
    if not ids:
        raise DataError(f"{path}: lists no image")
    return list(ids)


def _read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    mask = read_indices(path)
    wrong = np.unique(mask[(mask > len(CLASS_NAMES)) & (mask != IGNORE)])
    if len(wrong):
        raise DataError(
            f"{path}: label ids {wrong[:8].tolist()} are out of range; allowed are 0..{len(CLASS_NAMES)} and {IGNORE}"
        )
    return mask


def _raise_all(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        more = [f"and {len(found) - MOST_PROBLEMS} more"] if len(found) > MOST_PROBLEMS else []
        raise DataError("\n".join([*found[:MOST_PROBLEMS], *more]))
