"""The 80 object classes of MS COCO in their order, and the two ways that masks number them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int16

from aream.metrics import IGNORE

CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

CATEGORY_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers between 1 and 90 that COCO's annotations never use."""

CATEGORY_IDS = tuple(number for number in range(1, 91) if number not in CATEGORY_GAPS)
"""Numbers of the classes in COCO's annotations, in 1..90."""


def category_ids() -> Int16[np.ndarray, " values"]:
    """Class id of every mask value where masks carry the numbers of COCO's annotations; -1: it may not occur."""
    ids = np.full(256, -1, dtype=np.int16)
    ids[0], ids[IGNORE] = 0, IGNORE
    ids[list(CATEGORY_IDS)] = np.arange(1, len(CATEGORY_IDS) + 1)
    return ids
