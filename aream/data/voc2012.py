"""PASCAL VOC 2012 in its own layout, with every list and label format that published code comes with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aream.config import config, location
from aream.data._findings import SPLITS, Findings
from aream.data._image_files import ImageFiles, check_folder, check_scored, contiguous_ids
from aream.data._label_files import Labels, find_labels
from aream.data._lists import read_split
from aream.data._voc_labels import CLASS_NAMES, read_annotations, read_label_file
from aream.errors import DataError

LISTS = {
    "train": (
        "train_aug.txt",
        "train_aug_id.txt",
        "train_aug(id).txt",
        "trainaug.txt",
        "train.txt",
        "train_id.txt",
    ),
    "val": ("val.txt", "val_id.txt"),
}
LABEL_FILES = ("cls_labels.npy", "cls_labels_plain.npz", "cls_labels.npz", "cls_labels_onehot.npy")
LISTS_FOLDER = Path("ImageSets") / "Segmentation"


@config
class Config:
    root: str = location()
    """The folder that holds JPEGImages and ImageSets (VOCdevkit/VOC2012)."""
    masks: str = "SegmentationClass"
    """Folder of the mask PNGs under the root, such as SegmentationClassAug."""
    train_list: str | None = location(None)
    """List of train ids, a path or a name in ImageSets/Segmentation or the root; null: the augmented list, else
    train.txt."""
    val_list: str | None = location(None)
    """List of val ids; null: val.txt."""
    labels_file: str | None = location(None)
    """Image-level labels; null: cls_labels.npy and its kin under the root, else Annotations/*.xml."""
    scored_classes: tuple[int, ...] | None = None
    """Mask ids over which the headline mIoU is averaged, 0 is background; null: all 21."""

    def __post_init__(self) -> None:
        check_scored(self.scored_classes, len(CLASS_NAMES))
        check_folder("masks", self.masks)


def build(config: Config) -> Voc2012:
    """Read lists and labels and see that the files exist; pixels are read by ``inspect``.

    Raises:
        DataError: listing what is missing.
    """
    return Voc2012(config, Findings(strict=True))


def survey(config: Config, found: Findings) -> Voc2012:
    """The dataset without what is ``found`` to be unusable.

    Raises:
        DataError: nothing is usable.
    """
    return Voc2012(config, found)


class Voc2012(ImageFiles):
    def __init__(self, config: Config, found: Findings) -> None:
        super().__init__()
        self.config, self.root = config, Path(config.root)
        self.mask_ids = contiguous_ids(len(CLASS_NAMES))
        if not (self.root / "JPEGImages").is_dir():
            raise DataError(f"data.root: {self.root} holds no JPEGImages; need the folder VOCdevkit/VOC2012 or alike")
        folders = (self.root / LISTS_FOLDER, self.root)
        chosen = {"train": config.train_list, "val": config.val_list}
        self.splits = {
            split: list(read_split(chosen[split], LISTS[split], folders, found, split, lambda name: name).ids)
            for split in SPLITS
        }
        found.settle()
        self.keep_existing(found)
        labels, source = self._labels_from(found)
        self.keep_labelled(labels, found, dict.fromkeys(SPLITS, source))

    @property
    def class_names(self) -> Sequence[str]:
        return CLASS_NAMES

    @property
    def scored_classes(self) -> Sequence[int]:
        return self.config.scored_classes or range(len(CLASS_NAMES) + 1)

    def image_path(self, image_id: str) -> Path:
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def mask_path(self, image_id: str) -> Path:
        return self.root / self.config.masks / f"{image_id}.png"

    def _labels_from(self, found: Findings) -> tuple[dict[str, Labels], str]:
        """Labels of both splits, and where they are from."""
        path = find_labels(self.config.labels_file, LABEL_FILES, (self.root,))
        if path is not None:
            table = read_label_file(path)
            return dict.fromkeys(SPLITS, table), str(path)
        folder = self.root / "Annotations"
        if not folder.is_dir():
            raise DataError(f"{self.root}: no image labels; looked for {', '.join(LABEL_FILES)} and Annotations")
        labels = {split: read_annotations(folder, ids, found, split) for split, ids in self.splits.items()}
        found.settle()
        self.splits = {split: [one for one in ids if one in labels[split]] for split, ids in self.splits.items()}
        return labels, str(folder)
