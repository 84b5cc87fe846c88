"""Training a segmenter on pseudo-labels; as exact on continuation as a host's (see :mod:`aream.training`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aream.data._protocol import Dataset
from aream.engine.checkpoints import Checkpoints, Report
from aream.engine.epoch_means import EpochMeans
from aream.engine.randomness import random_state, restore_random_state
from aream.engine.steps import Pieces, apply_gradients, autocast, refuse_loss, refuse_row
from aream.metrics import IGNORE
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.crops import Sample, TrainingCrops
from aream.segmenters._protocol import Segmenter

LOSS = "train/segmentation_loss"
ReadLabels = Callable[[str], UInt8[np.ndarray, "h w"]]


def segmentation_loss(
    logits: Float[Tensor, "b k h w"], labels: Int64[Tensor, "b h w"], labelled: int | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy over labelled pixels; a batch without any contributes exactly 0 (a plain mean would be NaN).

    Args:
        labelled: labelled pixels of the whole batch, where these images are a part of it.
    """
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / ((labels != IGNORE).sum().clamp(min=1) if labelled is None else max(labelled, 1))


def learning_groups(segmenter: Segmenter, config: SegmentationTraining) -> list[dict[str, Any]]:
    """Encoder and head, weights and biases, each with its learning rate and decay; what is frozen is in none."""
    heads = {id(parameter) for parameter in segmenter.head_parameters()}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for _, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in heads, parameter.ndim < 2), []).append(parameter)
    found = []
    for (head, bias), parameters in groups.items():
        lr = config.lr * (config.head_lr_scale if head else 1.0) * (config.bias_lr_scale if bias else 1.0)
        decay = 0.0 if bias and not config.decay_biases else config.weight_decay
        found.append({"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay})
    return found


class SegmentationRun:
    """One segmenter's training."""

    def __init__(
        self,
        segmenter: Segmenter,
        dataset: Dataset,
        read_labels: ReadLabels,
        config: SegmentationTraining,
        seed: int,
        *,
        device: torch.device,
    ) -> None:
        self.segmenter, self.dataset, self.read_labels = segmenter, dataset, read_labels
        self.config, self.seed, self.device = config, seed, device
        segmenter.to(device)
        self.optimizer = torch.optim.SGD(learning_groups(segmenter, config), momentum=config.momentum)
        fp16 = config.precision == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.ids = list(dataset.ids("train"))
        self.batch_size = min(config.batch_size, len(self.ids))
        self.steps = len(self.ids) // self.batch_size
        self.total = config.iterations or config.epochs * self.steps
        self.crops = TrainingCrops(config, seed, segmenter.mean, segmenter.std)
        self.pieces = Pieces(
            self.batch_size,
            config.out_of_memory,
            f"lower segmentation.train.batch_size ({config.batch_size}) or segmentation.train.crop ({config.crop})"
            + (", or set segmentation.train.out_of_memory to accumulate" if config.out_of_memory == "fail" else ""),
        )
        self.epoch, self.step, self.figures = 0, 0, EpochMeans()
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        return {
            "model": self.segmenter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "figures": self.figures.sums,
            "history": self.history,
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))
        self.segmenter.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.figures.sums = state["epoch"], state["step"], state["figures"]
        self.history, self.pieces.size = state["history"], state["micro_batch"]
        restore_random_state(state["random"])

    def run(self, *, report: Report, checkpoints: Checkpoints) -> None:
        """Train to the end, reporting one row an epoch.

        Raises:
            DivergedError: the loss or a gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
            DataError: no crop of an epoch had a labelled pixel.
        """
        while self._done() < self.total:
            self._epoch(checkpoints)
            place = f"epoch {self.epoch + 1}"
            self.figures.refuse_nothing(LOSS, place, f"no crop of {len(self.ids)} images has a labelled pixel")
            row = {"epoch": float(self.epoch + 1)} | self.figures.means() | self.pieces.row()
            refuse_row(row, place)
            self.history.append(row)
            self.epoch, self.step, self.figures = self.epoch + 1, 0, EpochMeans()
            going_on = self._done() < self.total
            keep = checkpoints.after_epoch if going_on else checkpoints.after_last_epoch
            keep(self.state)
            report(row)
            if going_on:
                checkpoints.leave_if_asked(self.state)

    def _done(self) -> int:
        """Steps that have been taken; the last epoch may be shorter than ``steps``."""
        return self.epoch * self.steps + self.step

    def _epoch(self, checkpoints: Checkpoints) -> None:
        self.segmenter.train()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.ids))
        steps = min(self.steps, self.total - self.epoch * self.steps)
        while self.step < steps:
            chosen = order[self.step * self.batch_size : (self.step + 1) * self.batch_size]
            self._train_step([self.ids[index] for index in chosen])
            self.step += 1
            if self.step < steps:
                checkpoints.after_step(self.state)

    def _train_step(self, ids: Sequence[str]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * (1 - self._done() / self.total) ** self.config.poly_power
        samples = [self._sample(image_id) for image_id in ids]
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        self.figures.add(
            self.pieces.run(self.segmenter, lambda size: self._gradients(ids, samples, size, place), place)
        )
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, place, ids)

    def _gradients(self, ids: Sequence[str], samples: Sequence[Sample], size: int, place: str) -> dict[str, float]:
        """The batch's loss, if it has a labelled pixel, and its gradients from passes of at most ``size`` images."""
        self.optimizer.zero_grad(set_to_none=True)
        labelled = sum(int((labels != IGNORE).sum()) for _, labels in samples)
        total = 0.0
        for start in range(0, len(ids), size):
            images, labels = zip(*samples[start : start + size], strict=True)
            with autocast(self.device, self.config.precision):
                logits = self.segmenter(torch.stack(images).to(self.device))
            loss = segmentation_loss(logits.float(), torch.stack(labels).to(self.device), labelled)
            refuse_loss({"segmentation": loss}, loss, place, ids[start : start + size])
            self.scaler.scale(loss).backward()
            total += loss.item()
        return {LOSS: total} if labelled else {}

    def _sample(self, image_id: str) -> Sample:
        scale = self.crops.batch_scale(self.epoch, self.step)
        return self.crops.crop(self.dataset.image(image_id), self.read_labels(image_id), self.epoch, image_id, scale)
