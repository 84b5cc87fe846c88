"""Threshold search: all thresholds counted in one pass, against one pass a threshold."""

from __future__ import annotations

import numpy as np
import torch

from aream.labels.pseudo_labels import LevelMap
from aream.labels.thresholds import ScoreLevels, ThresholdCounts
from aream.metrics import mean_iou
from benchmarks.measure import Kind, Result, cpu_seconds
from benchmarks.published import miou_at

IMAGES, CLASSES = 10, 21
THRESHOLDS = np.round(np.arange(60) * 0.01, 6)
SIZE = (375, 500)

KIND: Kind = "cpu"


def scenes() -> list[tuple[np.ndarray, list[int], np.ndarray]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(IMAGES):
        ids = sorted(rng.choice(np.arange(1, CLASSES), size=2, replace=False).tolist())
        coarse = rng.random((2, 24, 32), dtype=np.float32)
        scores = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, : SIZE[0], : SIZE[1]].copy()
        target = np.where(scores.max(axis=0) > 0.4, np.array(ids)[scores.argmax(axis=0)], 0).astype(np.uint8)
        noise = rng.random(SIZE)
        target[noise < 0.1] = rng.choice([0, *ids])
        target[noise > 0.97] = 255
        found.append((scores, ids, target))
    return found


def measure() -> list[Result]:
    images = scenes()
    curves: dict[str, list[float]] = {}

    def ours() -> None:
        counts, levels = ThresholdCounts(CLASSES, len(THRESHOLDS)), ScoreLevels(THRESHOLDS.astype(np.float32))
        for scores, ids, target in images:
            found = LevelMap.of(torch.from_numpy(scores), ids, levels)
            counts.add(found.classes, found.levels, torch.from_numpy(target))
        curves["ours"] = [mean_iou(confusion, absent="zero") for confusion in counts.confusions()]

    def baseline() -> None:
        thresholds = THRESHOLDS.astype(np.float32)
        curves["baseline"] = [miou_at(images, threshold, CLASSES) for threshold in thresholds]

    spent, base = cpu_seconds(ours, baseline, repeats=1)
    difference = float(np.abs(np.subtract(curves["ours"], curves["baseline"])).max())
    return [
        Result(
            name="threshold_search",
            unit="CPU s",
            ours=spent,
            baseline=base,
            required=50,
            input=f"{IMAGES} images {SIZE[0]}x{SIZE[1]}, 2 of {CLASSES} classes each, {len(THRESHOLDS)} thresholds",
            same=difference < 1e-12,
            difference=f"mIoU differs by {difference:g} at most",
        )
    ]
