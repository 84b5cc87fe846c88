"""A small folder of COCO 2014 in any of the layouts that people have: noise, and masks that agree with the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from aream.datasets._coco_classes import CATEGORY_IDS, CLASS_NAMES

SIZE = (12, 16)
CLASSES = {
    "COCO_train2014_000000000009": (45, 49, 50),
    "COCO_train2014_000000000025": (0, 79),
    "COCO_train2014_000000000030": (),
    "COCO_val2014_000000000042": (16,),
    "COCO_val2014_000000000073": (71, 3),
    "COCO_val2014_000000000074": (),
}
"""0-based classes of each image; two images have no object."""
TRAIN = [name for name in CLASSES if "train" in name]
VAL = [name for name in CLASSES if "val" in name]


def one_hot(classes) -> np.ndarray:
    labels = np.zeros(80, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


def mask_of(classes, number=lambda k: k + 1) -> np.ndarray:
    """Background, a column a class, and a column to ignore."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:, -1] = 255
    for column, k in enumerate(classes):
        mask[:, column + 1] = number(k)
    return mask


def write_coco(
    root: Path,
    images: str = "{}2014",
    masks: str = "SegmentationClass/{}2014",
    number=lambda k: k + 1,
    mask_name=lambda name: name,
    lists: bool = True,
    image_name=lambda name: name,
) -> Path:
    """``images`` and ``masks`` are the folders of a part, ``{}`` being train or val; lists carry the labels."""
    rng = np.random.default_rng(0)
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / images.format(part)).mkdir(parents=True)
        (root / masks.format(part)).mkdir(parents=True)
        for name in ids:
            pixels = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / images.format(part) / f"{image_name(name)}.jpg")
            mask = Image.fromarray(mask_of(CLASSES[name], number))
            mask.save(root / masks.format(part) / f"{mask_name(name)}.png")
        if lists:
            lines = [" ".join([image_name(name), *map(str, CLASSES[name])]) for name in ids]
            (root / f"{part}.txt").write_text("\n".join(lines))
    return root


def digits(name: str) -> str:
    """As the images of 2017 and their masks are called."""
    return name[-12:]


def instances(ids, name=lambda name: f"{digits(name)}.jpg") -> dict[str, list[dict[str, object]]]:
    """COCO's annotations of some images, each object with its outline, box and area."""
    objects = [(int(digits(one)), CATEGORY_IDS[k]) for one in ids for k in CLASSES[one]]
    return {
        "info": {"year": 2017},
        "images": [{"id": int(digits(one)), "file_name": name(one), "width": 16, "height": 12} for one in ids],
        "annotations": [
            {"id": 7 + n, "image_id": image, "category_id": number, "iscrowd": n % 2, "area": 4.5,
             "bbox": [1.0, 1.0, 3.0, 2.0], "segmentation": [[1.0, 1.0, 4.0, 1.0, 4.0, 3.0]]}
            for n, (image, number) in enumerate(objects)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "thing"}
            for number, name in zip(CATEGORY_IDS, CLASS_NAMES, strict=True)
        ],
    }  # fmt: skip


def write_coco2017(root: Path, lists: bool = False, **more) -> Path:
    """As it is downloaded, with masks beside it."""
    write_coco(root, "{}2017", "SegmentationClass/{}2017", mask_name=digits, image_name=digits, lists=lists, **more)
    (root / "annotations").mkdir()
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / f"annotations/instances_{part}2017.json").write_text(json.dumps(instances(ids)))
    return root
