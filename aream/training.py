"""The training loop of a host: warm-up on image labels alone, then with the method's own losses.

Everything a continuation needs is in one state (model, optimizer, loss scaler, epoch, step, random states, best
model): a training restored from it goes on bit for bit, on the same machine, as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import copy
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from timm.scheduler import CosineLRScheduler

from aream.backbones._protocol import Backbone
from aream.batches import MAX_SIDE, Augmentation, Batch, TrainingBatches, validation_batches
from aream.config import config
from aream.data._protocol import Dataset
from aream.errors import ConfigError, DivergedError, Interrupted
from aream.losses import classification_loss
from aream.methods._protocol import Method
from aream.metrics import mean_average_precision
from aream.randomness import random_state, restore_random_state
from aream.steps import OutOfMemoryPolicy, Pieces, apply_gradients, refuse_loss, refuse_row

Report = Callable[[dict[str, float]], None]


@config
class TrainConfig:
    epochs: int = 60
    """Passes over the training images, warm-up included."""
    warmup_epochs: int = 10
    """First epochs without the method's losses (authors' script: 10 of 60); shared by all that differ only in them."""
    batch_size: int = 64
    """Images a step."""
    lr: float = 6.25e-5
    """AdamW's peak learning rate (DeiT's 5e-4 * 64 / 512)."""
    head_lr_scale: float = 1.0
    """Learning rate of the new CAM head, as a multiple of ``lr``."""
    lr_warmup_epochs: int = 5
    """Epochs over which the learning rate rises from 1e-6."""
    lr_floor: float = 1e-5
    """Learning rate the cosine ends at."""
    weight_decay: float = 0.05
    """Not applied to biases, norms and positions; applied to the class tokens, as the authors do."""
    image_size: int = 224
    """Side of the square training images, pixels; a multiple of the patch size."""
    augmentation: Augmentation = Augmentation()
    select: Literal["best", "last"] = "best"
    """Weights kept: those of the epoch with the best val mAP after the warm-up (MCTformer), or the last."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto is bf16 on a GPU and fp32 on a CPU."""
    out_of_memory: OutOfMemoryPolicy = "fail"
    """Where memory does not hold a batch: fail, or accumulate gradients over ever smaller pieces of it. They add up to
    the same gradient but for rounding and random numbers, so the result depends on when memory ran out."""

    def __post_init__(self) -> None:
        for name, most in {"epochs": 1_000_000, "batch_size": 65_536, "image_size": MAX_SIDE}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: need a positive number of at most {most}, got {getattr(self, name)}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(
                f"warmup_epochs: need 0 <= warmup_epochs < epochs ({self.epochs}), got {self.warmup_epochs}"
            )
        if not 0 <= self.lr_warmup_epochs <= self.epochs:
            raise ConfigError(
                f"lr_warmup_epochs: need 0 <= lr_warmup_epochs <= epochs ({self.epochs}), got {self.lr_warmup_epochs}"
            )
        if not 0 <= self.lr_floor <= self.lr or self.lr == 0:
            raise ConfigError(
                f"lr, lr_floor: need 0 <= lr_floor <= lr and lr > 0, got lr {self.lr}, floor {self.lr_floor}"
            )
        if self.head_lr_scale <= 0 or self.weight_decay < 0:
            raise ConfigError(
                f"head_lr_scale, weight_decay: need a positive scale and a decay >= 0, "
                f"got {self.head_lr_scale} and {self.weight_decay}"
            )


@dataclass(frozen=True)
class Checkpoints:
    """How a training's state leaves the loop; ``save`` must be atomic."""

    save: Callable[[dict[str, Any]], None]
    every_s: float = 60.0
    """Seconds between checkpoints inside an epoch; every epoch but the last ends with one."""
    clock: Callable[[], float] = time.monotonic
    stop: Callable[[], bool] = lambda: False
    """Asked after every step; a training that should stop saves its state and raises ``Interrupted``."""

    def leave_if_asked(self, state: Callable[[], dict[str, Any]]) -> None:
        """Raises ``Interrupted`` where ``stop`` says so, its state saved."""
        if self.stop():
            self.save(state())
            raise Interrupted("stopped as asked; its checkpoint is kept")


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The forward pass's arithmetic: fp32 on a CPU unless asked for."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


class Training:
    """One host's training; make it right after :func:`seed_everything`, or restore a state into it."""

    def __init__(
        self,
        backbone: Backbone,
        method: Method | None,
        dataset: Dataset,
        config: TrainConfig,
        seed: int,
        *,
        device: torch.device,
        loader_workers: int = 0,
    ) -> None:
        """``method`` None trains the warm-up only."""
        self.backbone, self.method, self.dataset, self.config, self.device = (
            backbone, method, dataset, config, device,
        )  # fmt: skip
        backbone.to(device)
        self.batches = TrainingBatches(
            dataset,
            side=config.image_size,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
            mean=backbone.mean,
            std=backbone.std,
            seed=seed,
            loader_workers=loader_workers,
        )
        self.optimizer = torch.optim.AdamW(parameter_groups(backbone, config), lr=config.lr)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=config.epochs,
            lr_min=config.lr_floor,
            warmup_t=config.lr_warmup_epochs,
            warmup_lr_init=min(1e-6, config.lr),
        )
        fp16 = config.precision == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.pieces = Pieces(
            self.batches.batch_size,
            config.out_of_memory,
            f"lower train.batch_size ({config.batch_size}) or train.image_size ({config.image_size})"
            + (", or set train.out_of_memory to accumulate" if config.out_of_memory == "fail" else ""),
        )
        self.epoch, self.step = 0, 0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        return {
            "model": self.backbone.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
            "best": self.best,
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``; trainings forked from one state do not share memory."""
        state = copy.deepcopy(dict(state))
        self.backbone.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.pieces.size = state["epoch"], state["step"], state["micro_batch"]
        self.sums, self.history, self.best = state["sums"], state["history"], state["best"]
        restore_random_state(state["random"])

    def run(self, until: int, *, report: Report, checkpoints: Checkpoints | None = None) -> None:
        """Train up to and without epoch ``until``, reporting one row of metrics an epoch.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
        """
        while self.epoch < until:
            self._train_epoch(checkpoints)
            row = {name: total / len(self.batches) for name, total in self.sums.items()}
            row |= self.validate(checkpoints) | {
                "epoch": float(self.epoch + 1),
                "lr": self.optimizer.param_groups[0]["lr"],
            }
            row |= self.pieces.row()
            refuse_row(row, f"epoch {self.epoch + 1}")
            self.history.append(row)
            self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
            past_warmup = self.epoch > self.config.warmup_epochs
            if past_warmup and (self.best is None or row["val/map"] > self.best["val/map"]):
                weights = {name: value.clone() for name, value in self.backbone.state_dict().items()}
                self.best = {"epoch": self.epoch, "val/map": row["val/map"], "model": weights}
            if checkpoints is not None and self.epoch < until:  # after the last one the result itself is kept
                checkpoints.save(self.state())
            report(row)
            if checkpoints is not None and self.epoch < until:
                checkpoints.leave_if_asked(self.state)

    def selected(self) -> tuple[dict[str, Any], float]:
        """Weights to keep and their val mAP, by ``config.select``."""
        if self.config.select == "best" and self.best is not None:
            return self.best["model"], float(self.best["val/map"])
        return self.backbone.state_dict(), float(self.history[-1]["val/map"])

    def _train_epoch(self, checkpoints: Checkpoints | None) -> None:
        self.backbone.train()
        self.schedule.step(self.epoch)
        saved = checkpoints.clock() if checkpoints else 0.0
        for batch in self.batches.epoch(self.epoch, self.step):
            for name, value in self._train_step(batch).items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.step += 1
            if checkpoints and checkpoints.clock() - saved >= checkpoints.every_s and self.step < len(self.batches):
                checkpoints.save(self.state())
                saved = checkpoints.clock()
            if checkpoints and self.step < len(self.batches):
                checkpoints.leave_if_asked(self.state)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        losses = self.pieces.run(self.backbone, lambda size: self._gradients(batch, size, place), place)
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, place, batch.ids)
        return {f"train/{name}_loss": value for name, value in losses.items()}

    def _gradients(self, batch: Batch, size: int, place: str) -> dict[str, float]:
        """The batch's losses, and their gradients from passes of at most ``size`` images."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = [part.to(self.device) for part in batch.split(size)]
        method = self.method if self.epoch >= self.config.warmup_epochs else None
        with autocast(self.device, self.config.precision):
            auxiliary = [] if method is None else method.losses_of_parts(self.backbone, parts)
        sums: dict[str, float] = {}
        for index, part in enumerate(parts):
            with autocast(self.device, self.config.precision):
                output = self.backbone(part.images)
                mean = classification_loss(tuple(x.float() for x in output.logits), part.labels)
                losses = {"classification": mean * (len(part.ids) / len(batch.ids))}
                if method is not None:
                    losses |= auxiliary[index](output)
            total = torch.stack(list(losses.values())).sum()
            refuse_loss(losses, total, place, part.ids)
            self.scaler.scale(total).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        return sums

    @torch.no_grad()
    def validate(self, checkpoints: Checkpoints | None = None) -> dict[str, float]:
        """Mean average precision of the val split's image labels, over the dataset's scored classes and over all.

        Raises:
            DivergedError: scores that are not finite.
            Interrupted: asked to stop; the state is that of the epoch's last step.
        """
        self.backbone.eval()
        scores, labels = [], []
        for batch in validation_batches(
            self.dataset,
            side=self.config.image_size,
            batch_size=min(self.config.batch_size, self.pieces.size),
            mean=self.backbone.mean,
            std=self.backbone.std,
        ):
            with autocast(self.device, self.config.precision):
                output = self.backbone(batch.images.to(self.device))
            scores.append(output.scores.float().cpu())
            labels.append(batch.labels)
            if checkpoints is not None:  # a validation that never asks would count as stalled
                checkpoints.leave_if_asked(self.state)
        every = torch.cat(scores).numpy(), torch.cat(labels).numpy()
        if not np.isfinite(every[0]).all():
            raise DivergedError(f"scores of val images are not finite after epoch {self.epoch + 1}")
        scored = [mask_id - 1 for mask_id in self.dataset.scored_classes if mask_id > 0]
        return {
            "val/map": mean_average_precision(every[0][:, scored], every[1][:, scored]),
            "val/map_all": mean_average_precision(*every),
        }


def parameter_groups(backbone: Backbone, config: TrainConfig) -> list[dict[str, Any]]:
    """Decay and no decay, host and head."""
    heads = {id(parameter) for parameter in backbone.head_parameters()}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        decayed = parameter.ndim > 1 and not name.endswith("pos_embed")
        groups.setdefault((decayed, id(parameter) in heads), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "lr": config.lr * (config.head_lr_scale if head else 1.0),
        }
        for (decayed, head), parameters in groups.items()
    ]
