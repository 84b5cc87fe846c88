"""MS COCO 2017 for semantic segmentation: the photos of 2014 in other parts, called by their numbers alone.

Images lie in ``{train2017,val2017}``, ``JPEGImages/{train,val}`` or ``JPEGImages/{train2017,val2017}``, masks in
``SegmentationClass/{train,val}`` or ``SegmentationClass/{train2017,val2017}``, as ``000000000009.png``; all of it under
the root or in its folder ``coco2017``. Without lists, ``annotations/instances_{train,val}2017.json`` name the images
and their classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from aream.config import config
from aream.data.findings import Findings
from aream.datasets import coco2014
from aream.datasets._image_files import listed_names


@config
class Config(coco2014.Config):
    """``root`` is the folder that holds train2017 and val2017, or JPEGImages, or coco2017. Lists, where there are any,
    are looked for and called as those of ``coco2014``, with 2017 for 2014; ids may also be those of 2014. Labels are
    those of the lists, else cls_labels.npy and its kin in the root, else of annotations/instances_train2017.json and of
    val, which also stand for lists."""


class Coco2017(coco2014.Coco2014):
    """COCO 2017 in its own folders; ids are the 12 digits of an image."""

    config: Config
    YEAR = "2017"
    LISTS: ClassVar[Mapping[str, Sequence[str]]] = coco2014.list_names(YEAR)

    def read(self, found: Findings) -> None:
        self._of_val = frozenset(listed_names(self._folders()[0]["val"]))
        super().read(found)

    def part(self, image_id: str) -> str:
        return "val" if f"{image_id}.jpg" in self._of_val else "train"

    def full_id(self, name: str, split: str) -> str | None:
        named = coco2014.ID.fullmatch(name)
        digits = named[2] if named else name
        return f"{digits:0>12}" if re.fullmatch("[0-9]{1,12}", digits) else None


build = survey = Coco2017
