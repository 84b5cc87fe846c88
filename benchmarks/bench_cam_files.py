"""CAM files in fp16: what they come to in mIoU against the float32 maps that they are written from, and their bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from benchmarks.bench_labels import LAYERS, data, noisy_cams
from benchmarks.measure import CPU, Kind, Result
from workers.components import build_dataset
from workers.files.cams import read_cams, write_cams

KIND: Kind = "cpu"
IMAGES = 200
MOST = 1e-4
"""mIoU, at any threshold."""


def measure() -> list[Result]:
    kind, component = data(IMAGES)
    dataset = build_dataset(component)
    labels, classes, layers = LabelsConfig(), len(dataset.class_names) + 1, tuple(range(LAYERS))
    exact, stored = (ThresholdSearch(labels.grid(), classes) for _ in range(2))
    floats = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_cams(folder, noisy_cams(dataset, IMAGES))
        halves = sum(path.stat().st_size for path in folder.iterdir())
        for before, after in zip(noisy_cams(dataset, IMAGES), read_cams(folder), strict=True):
            floats += sum(scale.maps.numel() * 4 for scale in before.scales)
            mask = torch.from_numpy(dataset.mask(before.image_id))
            ids = [index + 1 for index in before.classes]
            for search, cams in ((exact, before), (stored, after)):
                search.add(cams.image_id, cams.combined(layers, CPU), ids, mask)
    choices = [search.choose(labels, dataset.scored_classes) for search in (exact, stored)]
    apart = float(np.abs(np.subtract(choices[0].curve, choices[1].curve)).max())
    place = f"{IMAGES} {kind}, the mean of {LAYERS} layers"
    return [
        Result(
            name="cam files miou",
            unit="mIoU",
            ours=apart,
            baseline=MOST,
            required=1,
            input=f"largest difference at any of {len(choices[0].curve)} thresholds between maps stored in fp16 and "
            f"the float32 ones; the baseline is what is allowed; {place}",
            same=choices[0].threshold == choices[1].threshold,
            difference=f"best mIoU {choices[0].miou:.6f} and {choices[1].miou:.6f}",
        ),
        Result(
            name="cam files bytes",
            unit="bytes",
            ours=halves,
            baseline=floats,
            required=1.9,
            input=f"CAM files with their index against the float32 maps alone; {place}",
        ),
    ]
