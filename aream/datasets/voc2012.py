"""PASCAL VOC 2012 in its own layout, with every list and label format that published code comes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from aream.config import config
from aream.data.findings import SPLITS, Findings
from aream.datasets._image_files import ImageFiles, contiguous_ids
from aream.datasets._image_files_config import ImageFilesConfig
from aream.datasets._label_files import Labels
from aream.datasets._voc_labels import CLASS_NAMES, read_annotations, read_label_file
from aream.errors import DataError


@config
class Config(ImageFilesConfig):
    """``root`` is the folder that holds JPEGImages and ImageSets (VOCdevkit/VOC2012), ``masks`` may be
    SegmentationClassAug. Lists are looked for in ImageSets/Segmentation and the root: the augmented one, else
    train.txt, and val.txt. Labels are cls_labels.npy and its kin under the root, else Annotations/*.xml."""

    CLASSES = len(CLASS_NAMES)


class Voc2012(ImageFiles):
    """Pixels are read by ``inspect``."""

    class_names = CLASS_NAMES
    LISTS: ClassVar[Mapping[str, Sequence[str]]] = {
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

    def read(self, found: Findings) -> None:
        self.mask_ids = contiguous_ids(len(CLASS_NAMES))
        if not (self.root / "JPEGImages").is_dir():
            raise DataError(f"data.root: {self.root} holds no JPEGImages; need the folder VOCdevkit/VOC2012 or alike")
        self.splits = {split: list(self.read_list(split, found).ids) for split in SPLITS}
        found.settle()
        self.keep_existing(found)
        labels, source = self._labels_from(found)
        self.keep_labelled(labels, found, dict.fromkeys(SPLITS, source))

    def places(self) -> Sequence[Path]:
        return self.root / "ImageSets" / "Segmentation", self.root

    def image_path(self, image_id: str) -> Path:
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def mask_path(self, image_id: str) -> Path:
        return self.root / self.config.masks / f"{image_id}.png"

    def _labels_from(self, found: Findings) -> tuple[dict[str, Labels], str]:
        """Labels of both splits, and where they are from."""
        path = self.labels_path()
        if path is not None:
            table = read_label_file(path)
            return dict.fromkeys(SPLITS, table), str(path)
        folder = self.root / "Annotations"
        if not folder.is_dir():
            raise DataError(f"{self.root}: no image labels; looked for {', '.join(self.LABEL_FILES)} and Annotations")
        labels = {split: read_annotations(folder, ids, found, split) for split, ids in self.splits.items()}
        found.settle()
        self.splits = {split: [one for one in ids if one in labels[split]] for split, ids in self.splits.items()}
        return labels, str(folder)


build = survey = Voc2012
