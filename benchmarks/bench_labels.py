"""Pseudo-labels of several variants with PAR over real images: all in one pass, against each variant alone.

Both are the stage ``pseudo_label`` as a trial runs it: images decoded, CAMs refined, thresholds counted, PNGs and
overlays written. The CAMs are made of VOC's masks under noise: what labels cost depends on the images alone.

    python -m benchmarks.bench_labels --images 200      # of more than `make bench` has the time for
"""

from __future__ import annotations

import argparse
import filecmp
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from aream.config import Component
from aream.data.dataset import Dataset
from aream.datasets import shapes, voc2012
from aream.infer import ImageCams, ScaleMaps
from aream.labels.pseudo_labels import LabelsConfig, ThresholdRule
from aream.refiners import par
from benchmarks.measure import Kind, Result, cpu_seconds
from workers.checkpoint import NoCheckpoint
from workers.components import build_dataset
from workers.files.cams import write_cams
from workers.processes.runtime import Runtime
from workers.stage import StageContext, Work
from workers.stages import pseudo_label

KIND: Kind = "cpu"
IMAGES, PATCH, LAYERS = 24, 16, 12
REAL = Path(os.environ.get("AREAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "voc12_animals"
SUBSETS = (tuple(range(LAYERS)), tuple(range(6)), tuple(range(6, LAYERS)))
RULES: tuple[ThresholdRule, ...] = ("auto", "otsu")
MOST = 0.35
"""Of the CPU seconds of one variant after the other."""
NO, TOLD = NoCheckpoint(), lambda row: None
CONTEXT = StageContext(Runtime(), NO, TOLD, lambda: False)


def data(images: int) -> tuple[str, Component]:
    """VOC's animals where they are, else drawn scenes."""
    if REAL.is_dir():
        return "VOC images", Component(name="voc2012", config=voc2012.Config(root=str(REAL)))
    drawn = shapes.Config(image_size=384, train_images=images, val_images=1)
    return "drawn scenes", Component(name="shapes", config=drawn)


def noisy_cams(dataset: Dataset, number: int) -> Iterator[ImageCams]:
    """What a host might find in the first train images: their masks on the patch grid under noise, of every layer."""
    generator = torch.Generator().manual_seed(0)
    for image_id in list(dataset.ids("train"))[:number]:
        width, height = dataset.image(image_id).size
        classes = tuple(int(index) for index in np.flatnonzero(dataset.labels(image_id)))
        mask, grid = torch.from_numpy(dataset.mask(image_id)), (-(-height // PATCH), -(-width // PATCH))
        shown = torch.stack([(mask == index + 1).float() for index in classes])
        clean = 3 * F.adaptive_avg_pool2d(shown, grid)
        maps = torch.stack([(clean + torch.randn(clean.shape, generator=generator)).relu() for _ in range(LAYERS + 1)])
        covered = (height / (grid[0] * PATCH), width / (grid[1] * PATCH))
        yield ImageCams(image_id, (height, width), classes, (ScaleMaps(maps, covered, (height, width)),))


def measure(images: int = IMAGES) -> list[Result]:
    kind, component = data(images)
    configs = [
        pseudo_label.Config(
            data=component,
            layers=layers,
            labels=LabelsConfig(refiner=Component(name="par", config=par.Config()), background_threshold=rule),
        )
        for layers in SUBSETS
        for rule in RULES
    ]
    with tempfile.TemporaryDirectory() as folder:
        cams = Path(folder, "cams")
        cams.mkdir()
        write_cams(cams, noisy_cams(build_dataset(component), images))
        works = {
            side: [Work(config, {"cams": cams}, _empty(Path(folder, side, str(number))), NO, TOLD) for number, config in
                   enumerate(configs)]
            for side in ("together", "alone")
        }  # fmt: skip

        def together() -> None:
            for found in pseudo_label.run_together(works["together"], CONTEXT):
                if isinstance(found, Exception):
                    raise found

        def alone() -> None:
            for work in works["alone"]:
                pseudo_label.run(work.config, work.inputs, work.out, CONTEXT)

        spent, base = cpu_seconds(together, alone, repeats=1)
        different = sum(
            _different(ours.out, theirs.out) for ours, theirs in zip(works["together"], works["alone"], strict=True)
        )
    return [
        Result(
            name="labels" if images == IMAGES else f"labels_{images}",
            unit="CPU s",
            ours=spent,
            baseline=base,
            required=round(1 / MOST, 4),
            input=f"{images} {kind}, {len(configs)} variants with PAR: {len(SUBSETS)} layer subsets x "
            f"{' and '.join(RULES)}; the baseline is each variant alone",
            same=different == 0,
            difference=f"{spent / base:.2f}x, at most {MOST:g}x; {different} files differ",
        )
    ]


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _different(first: Path, second: Path) -> int:
    names = {str(path.relative_to(side)) for side in (first, second) for path in side.rglob("*") if path.is_file()}
    return len(names) - len(filecmp.cmpfiles(first, second, names, shallow=False)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description="Pseudo-labels of several variants in one pass.")
    parser.add_argument("--images", type=int, default=IMAGES)
    torch.set_num_threads(1)
    images = parser.parse_args().images
    there = len(build_dataset(data(max(1, images))[1]).ids("train"))
    if not 1 <= images <= there:
        parser.error(f"--images: given {images}; need 1..{there}")
    (result,) = measure(images)
    result.save()
    print(f"{result.input}: {result.difference} ({'ok' if result.passed else 'missed'})")
    return int(not result.passed)


if __name__ == "__main__":
    sys.exit(main())
