"""The epochs on image labels alone that every method of a host shares; trainings fork from its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aream.config import Component, added, config
from aream.engine.device_images import DeviceImages
from aream.engine.ranks import ALONE, Ranks
from aream.methods.protocol import Method
from aream.train import Training, seed_everything
from aream.train_config import TrainConfig
from workers.components import build_backbone, build_dataset
from workers.files.tensors import write_state
from workers.metric import Metric, each_loss
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, StageContext
from workers.stages._training import train

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
    """Processes that share every batch; part of the identity, since sums of parts round otherwise than sums of the
    whole."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    training = prepared(config, context.runtime, context.ranks)
    train(training, context, until=config.train.warmup)
    if context.writes:
        write_state(out / STATE_FILE, training.state())
    return {"val/map": training.history[-1]["val/map"]}


def prepared(
    config: Config,
    runtime: Runtime,
    ranks: Ranks = ALONE,
    method: Callable[[Any, int], Method | None] = lambda *_: None,
) -> Training:
    """The training before its first step, with what ``method`` makes for the host and its number of classes."""
    dataset = build_dataset(config.data, runtime)
    seed_everything(config.seed)
    backbone = build_backbone(config.backbone, len(dataset.class_names), config.train.image_size)
    # Ranks must find memory, or none, alike.
    keeps = runtime.gpu and ranks.size == 1 and getattr(config.data.config, "cache", None) == "device"
    return Training(
        backbone,
        method(backbone, len(dataset.class_names)),
        dataset,
        config.train,
        config.seed,
        device=runtime.device,
        loading=runtime.loading,
        ranks=ranks,
        kept_images=DeviceImages(runtime.memory_left) if keeps else None,
    )
