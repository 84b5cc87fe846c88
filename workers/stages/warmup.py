"""The epochs on image labels alone that every method of a host shares; trainings fork from its state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from aream.config import Component, added, config
from aream.train import Training, seed_everything
from aream.train_config import TrainConfig
from workers.components import build_backbone, build_dataset
from workers.metric import Metric, each_loss
from workers.processes.hardware import Part
from workers.stage import Row, StageContext

VERSION = 5
COMPUTES_ON: tuple[Part, ...] = ("device",)
STATE_FILE = "state.pt"
MAP = Metric(
    "val/map", "mean average precision over classes, image labels of the val split", better="max", epochs=True,
    shown="always",
)  # fmt: skip
IN_PIECES = Metric(
    "train/micro_batch", "images that memory held at once", "images", result=False, epochs=True,
    members=lambda trial: ("",) if trial.train.out_of_memory == "accumulate" else (),
)  # fmt: skip
METRICS = (
    MAP,
    Metric("val/map_all", "the same over all classes", better="max", result=False, epochs=True),
    Metric("val/map_image", "mean average precision over images, val split", better="max", result=False, epochs=True),
    Metric(
        "train/{}_loss", "a term of the training loss, mean over an epoch", "", "min", each_loss, False, epochs=True
    ),
    Metric("lr", "learning rate at the end of an epoch", "", result=False, epochs=True),
    IN_PIECES,
)


@config
class Config:
    data: Component
    backbone: Component
    train: TrainConfig
    seed: int
    processes: int = added(1)
    """That share every batch; part of the identity, since sums of parts round otherwise than sums of the whole."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    dataset = build_dataset(config.data)
    seed_everything(config.seed)
    backbone = build_backbone(config.backbone, len(dataset.class_names), config.train.image_size)
    training = Training(
        backbone,
        None,
        dataset,
        config.train,
        config.seed,
        device=context.runtime.device,
        loader_workers=context.runtime.loader_workers,
        ranks=context.ranks,
    )
    state = context.checkpoint.load()
    if state is not None:
        training.restore(state)
    for row in training.history:
        context.report(row)
    training.run(
        config.train.warmup,
        report=context.report,
        checkpoints=context.checkpoints(),
    )
    if context.writes:
        torch.save(training.state(), out / STATE_FILE)
    return {"val/map": training.history[-1]["val/map"]}
