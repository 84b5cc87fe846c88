"""Four AReAM variants that take their batches together, against four trainings one after the other.

Both run the stage ``train_cam`` on drawn scenes with the default augmentation. Loading is what is spent on making
batches, of training and of validation.
"""

from __future__ import annotations

import filecmp
import tempfile
import time
from pathlib import Path
from typing import Any

from aream.backbones import mctformer_v2
from aream.config import Component
from aream.datasets import shapes
from aream.engine import loading
from aream.methods import aream
from aream.refiners import par
from aream.train_config import TrainConfig
from benchmarks.measure import Kind, Result, cpu_seconds
from workers.checkpoint import NoCheckpoint
from workers.components import WEIGHTS_FILE
from workers.processes.runtime import Runtime
from workers.stage import StageContext, Work
from workers.stages import train_cam

ALPHAS = (0.15, 0.25, 0.35, 0.45)
IMAGES, VAL_IMAGES, DRAWN, SIDE, EPOCHS = 128, 32, 160, 64, 3
MOST_LOADING = 0.3
"""Of the CPU seconds that loading takes four trainings by themselves."""
DATA = Component(name="shapes", config=shapes.Config(image_size=DRAWN, train_images=IMAGES, val_images=VAL_IMAGES))
PAR = Component(name="par", config=par.Config(dilations=(1, 2), iterations=2))
HOST = Component(
    name="mctformer_v2",
    config=mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=24, depth=3, heads=2),
)

KIND: Kind = "cpu"


def measure() -> list[Result]:
    context = StageContext(Runtime(), NoCheckpoint(), lambda row: None, lambda: False)
    spent = {"together": 0.0, "alone": 0.0}
    make_batch, side = loading._Work.batch, "together"

    def timed(self: Any, keys: Any) -> Any:
        began = time.process_time()
        made = make_batch(self, keys)
        spent[side] += time.process_time() - began
        return made

    loading._Work.batch = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            works = {side: [_work(alpha, Path(folder, side)) for alpha in ALPHAS] for side in spent}

            def together() -> None:
                nonlocal side
                side = "together"
                for found in train_cam.run_together(works[side], context):
                    if isinstance(found, Exception):
                        raise found

            def alone() -> None:
                nonlocal side
                side = "alone"
                for work in works[side]:
                    train_cam.run(work.config, work.inputs, work.out, context)

            _once(works["alone"][0], context)  # scenes are drawn, and what is made once a process
            spent.update(together=0.0, alone=0.0)
            ours, baseline = cpu_seconds(together, alone, repeats=1)
            pairs = zip(works["together"], works["alone"], strict=True)
            same = all(filecmp.cmp(a.out / WEIGHTS_FILE, b.out / WEIGHTS_FILE, shallow=False) for a, b in pairs)
    finally:
        loading._Work.batch = make_batch  # type: ignore[method-assign]
    about = (
        f"{len(ALPHAS)} AReAM variants, {IMAGES} + {VAL_IMAGES} drawn scenes, {SIDE} px, {EPOCHS} epochs; "
        "baseline: one after the other"
    )
    figures = {"bank": (ours, baseline, 1.0), "bank_loading": (spent["together"], spent["alone"], 1 / MOST_LOADING)}
    return [
        Result(
            name=name,
            unit="CPU s",
            ours=mine,
            baseline=theirs,
            required=round(least, 4),
            input=about,
            same=same,
            difference=f"{mine / theirs:.2f}x; weights are {'equal' if same else 'NOT equal'} to the byte",
        )
        for name, (mine, theirs, least) in figures.items()
    ]


def _work(alpha: float, folder: Path) -> Work:
    out = folder / str(alpha)
    out.mkdir(parents=True)
    method = aream.resolve(aream.Config(alpha_low=alpha, label_mode="online", refiner=PAR), 3)
    config = train_cam.Config(
        data=DATA,
        backbone=HOST,
        train=TrainConfig(
            epochs=EPOCHS, warmup_epochs=0, lr_warmup_epochs=0, image_size=SIDE, batch_size=16
        ).resolved(),
        seed=0,
        method=Component(name="aream", config=method),
    )
    return Work(config, {}, out, NoCheckpoint(), lambda row: None)


def _once(work: Work, context: StageContext) -> None:
    with tempfile.TemporaryDirectory() as out:
        train_cam.run(work.config, work.inputs, Path(out), context)
