"""Training a host with a method, forked from the shared warm-up."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from aream import discover, methods
from aream.config import Component, added, config
from aream.engine.ranks import ALONE, Ranks
from aream.selection import remark, scored_labels
from aream.train import Training, seed_everything
from aream.train_config import TrainConfig
from workers.components import build_backbone, build_dataset
from workers.metric import Metric, each_decision, each_measure, pulls_on_layers
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, StageContext
from workers.stages import layer_entropy, warmup

log = logging.getLogger(__name__)

VERSION = 5
COMPUTES_ON: tuple[Part, ...] = ("device",)
GRADIENT = Metric(
    "train/method_gradient", "norm of the method's gradient as a multiple of the host's own, on the supervised layers; "
    "some steps of each epoch after the warm-up", "times", epochs=True, members=pulls_on_layers,
)  # fmt: skip
METRICS = (
    *warmup.METRICS,
    GRADIENT,
    Metric(
        "train/{}_share",
        "of the method's labels: pixels uncertain, pairs of patches alike or unlike; train images",
        members=each_measure,
        result=False,
        epochs=True,
    ),
    Metric(
        "host/{}",
        "what a setting of the backbone that its weights may decide about came to; 0: as published",
        "",
        members=each_decision,
    ),
    Metric("val/kept_epoch", "the epoch whose weights were kept", ""),
)
"""The record holds the selected epoch's."""
WEIGHTS_FILE = "model.safetensors"


@config
class Config:
    data: Component
    backbone: Component
    method: Component
    """Resolved: layers named one by one."""
    train: TrainConfig
    seed: int
    processes: int = added(1)
    """That share every batch, as in the warm-up."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``warmup``: the state to fork from; ``entropy``: layer entropies, where the method needs them."""
    entropies = layer_entropy.read(inputs["entropy"]) if "entropy" in inputs else None
    training = prepared(config, entropies, context.runtime, context.ranks)
    if context.writes and (said := remark(config.train, scored_labels(training.dataset))) is not None:
        log.warning(said)
    state = context.checkpoint.load()
    if state is None and "warmup" in inputs:
        # Through the file even where the state is at hand: only so are all forks equal bit for bit.
        state = torch.load(inputs["warmup"] / warmup.STATE_FILE, map_location="cpu", weights_only=True)
    if state is not None:
        training.restore(state)
    for row in training.history:
        context.report(row)
    training.run(
        config.train.epochs,
        report=context.report,
        checkpoints=context.checkpoints(),
    )
    weights, val_map, epoch = training.selected()
    if context.writes:
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, out / WEIGHTS_FILE)
        (out / "history.json").write_text(json.dumps(training.history, indent=1))
    pulls = [row[GRADIENT.name] for row in training.history if GRADIENT.name in row]
    strength = {GRADIENT.name: sum(pulls) / len(pulls)} if pulls else {}
    host: Any = training.backbone
    decided = host.decisions() if hasattr(host, "decisions") else {}
    came_to = {f"host/{name}": value for name, value in decided.items()}
    return {"val/map": val_map, "val/kept_epoch": float(epoch), **strength, **came_to}


def prepared(config: Config, entropies: Float[Tensor, " l"] | None, runtime: Runtime, ranks: Ranks = ALONE) -> Training:
    """The training before its first step."""
    dataset = build_dataset(config.data)
    seed_everything(config.seed)
    backbone = build_backbone(config.backbone, len(dataset.class_names), config.train.image_size)
    return Training(
        backbone,
        discover.load(methods, config.method.name).build(config.method.config, entropies),
        dataset,
        config.train,
        config.seed,
        device=runtime.device,
        loader_workers=runtime.loader_workers,
        ranks=ranks,
    )
