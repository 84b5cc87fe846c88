"""Training a segmenter on pseudo-labels, and its mIoU against ground truth at several scales, mirrored or not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.batches import MAX_SCALE, MAX_SIDE, check_scales, seeded, to_tensor
from aream.checkpoints import Checkpoints
from aream.config import config
from aream.data._protocol import IGNORE, Dataset
from aream.errors import ConfigError, DivergedError
from aream.metrics import confusion_matrix
from aream.randomness import random_state, restore_random_state
from aream.segmenters._protocol import Segmenter
from aream.steps import OutOfMemoryPolicy, Pieces, apply_gradients, autocast, refuse_loss, refuse_row
from aream.training import Report

ReadLabels = Callable[[str], UInt8[np.ndarray, "h w"]]


@config
class SegmentationTraining:
    epochs: int = 30
    """Passes over the pseudo-labelled images."""
    batch_size: int = 4
    """Images a step."""
    lr: float = 7e-4
    """Peak learning rate of the encoder (SGD with momentum 0.9, poly 0.9)."""
    head_lr_scale: float = 10.0
    """Learning rate of the new layers, as a multiple of ``lr``."""
    weight_decay: float = 5e-4
    crop: int = 321
    """Side of the square crop, pixels; smaller images are padded with ignored pixels."""
    scale: tuple[float, float] = (0.7, 1.3)
    """Range of the random scale before the crop."""
    flip: bool = True
    """Whether half of the images are mirrored."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16, as in the ``train`` section."""
    out_of_memory: OutOfMemoryPolicy = "fail"
    """fail or accumulate, as in the ``train`` section; an encoder with batch norm sees the pieces, not the batch."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "crop", "lr", "head_lr_scale"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        for name, most in {"epochs": 1_000_000, "batch_size": 65_536, "crop": MAX_SIDE}.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name}: need at most {most}, got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1] <= MAX_SCALE:
            raise ConfigError(f"scale: need 0 < low <= high <= {MAX_SCALE:g}, got {list(self.scale)}")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay: need a decay >= 0, got {self.weight_decay}")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ConfigError(f"precision: allowed are auto, fp32, bf16, fp16, got {self.precision!r}")


@config
class SegmentationEvaluation:
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    """Scales whose logits are averaged."""
    flip: bool = True
    """Whether mirrored images are averaged too."""

    def __post_init__(self) -> None:
        check_scales("scales", self.scales)


def segmentation_loss(
    logits: Float[Tensor, "b k h w"], labels: Int64[Tensor, "b h w"], labelled: int | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy over labelled pixels; a batch without any contributes exactly 0 (a plain mean would be NaN).

    Args:
        labelled: labelled pixels of the whole batch, where these images are a part of it.
    """
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / ((labels != IGNORE).sum().clamp(min=1) if labelled is None else max(labelled, 1))


class SegmentationRun:
    """One segmenter's training; as exact on continuation as a host's (see :mod:`aream.training`)."""

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
        heads = {id(parameter) for parameter in segmenter.head_parameters()}
        groups: dict[bool, list[torch.nn.Parameter]] = {False: [], True: []}
        for _, parameter in segmenter.named_parameters():
            groups[id(parameter) in heads].append(parameter)
        self.optimizer = torch.optim.SGD(
            [
                {"params": groups[head], "lr": config.lr * scale, "peak_lr": config.lr * scale}
                for head, scale in ((False, 1.0), (True, config.head_lr_scale))
            ],
            momentum=0.9,
            weight_decay=config.weight_decay,
        )
        fp16 = config.precision == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.ids = list(dataset.ids("train"))
        self.batch_size = min(config.batch_size, len(self.ids))
        self.steps = len(self.ids) // self.batch_size
        self.pieces = Pieces(
            self.batch_size,
            config.out_of_memory,
            f"lower segmentation.train.batch_size ({config.batch_size}) or segmentation.train.crop ({config.crop})"
            + (", or set segmentation.train.out_of_memory to accumulate" if config.out_of_memory == "fail" else ""),
        )
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        return {
            "model": self.segmenter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "history": self.history,
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))
        self.segmenter.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.loss_sum = state["epoch"], state["step"], state["loss_sum"]
        self.history, self.pieces.size = state["history"], state["micro_batch"]
        restore_random_state(state["random"])

    def run(self, *, report: Report, checkpoints: Checkpoints) -> None:
        """Train to the end, reporting one row an epoch.

        Raises:
            DivergedError: the loss or a gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
        """
        while self.epoch < self.config.epochs:
            self._epoch(checkpoints)
            row = {"epoch": float(self.epoch + 1), "train/segmentation_loss": self.loss_sum / self.steps}
            row |= self.pieces.row()
            refuse_row(row, f"epoch {self.epoch + 1}")
            self.history.append(row)
            self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
            if self.epoch < self.config.epochs:  # after the last one the result itself is kept
                checkpoints.save(self.state())
            report(row)
            if self.epoch < self.config.epochs:
                checkpoints.leave_if_asked(self.state)

    def _epoch(self, checkpoints: Checkpoints) -> None:
        self.segmenter.train()
        saved = checkpoints.clock()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.ids))
        while self.step < self.steps:
            chosen = order[self.step * self.batch_size : (self.step + 1) * self.batch_size]
            self._train_step([self.ids[index] for index in chosen])
            self.step += 1
            if checkpoints.clock() - saved >= checkpoints.every_s and self.step < self.steps:
                checkpoints.save(self.state())
                saved = checkpoints.clock()
            if self.step < self.steps:
                checkpoints.leave_if_asked(self.state)

    def _train_step(self, ids: Sequence[str]) -> None:
        done = (self.epoch * self.steps + self.step) / (self.config.epochs * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * (1 - done) ** 0.9
        samples = [self._sample(image_id) for image_id in ids]
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        self.loss_sum += self.pieces.run(self.segmenter, lambda size: self._gradients(ids, samples, size, place), place)
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, place, ids)

    def _gradients(self, ids: Sequence[str], samples: Sequence[tuple[Tensor, Tensor]], size: int, place: str) -> float:
        """The batch's loss, and its gradients from passes of at most ``size`` images."""
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
        return total

    def _sample(self, image_id: str) -> tuple[Float[Tensor, "3 s s"], Int64[Tensor, "s s"]]:
        """A random scale, mirror and crop of an image with its labels, drawn from (seed, epoch, image) alone."""
        image, labels = self.dataset.image(image_id), Image.fromarray(self.read_labels(image_id))
        side, (low, high) = self.config.crop, self.config.scale
        with seeded("segmentation", self.seed, self.epoch, image_id):
            scale = np.random.uniform(low, high)
            mirrored = self.config.flip and np.random.random() < 0.5
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            left = np.random.randint(max(size[0] - side, 0) + 1)
            top = np.random.randint(max(size[1] - side, 0) + 1)
        pixels = to_tensor(image.resize(size, Image.Resampling.BICUBIC), self.segmenter.mean, self.segmenter.std)
        target = torch.from_numpy(np.array(labels.resize(size, Image.Resampling.NEAREST), dtype=np.int64))
        pixels, target = (
            pixels[:, top : top + side, left : left + side],
            target[top : top + side, left : left + side],
        )
        border = (0, side - target.shape[1], 0, side - target.shape[0])
        pixels, target = F.pad(pixels, border), F.pad(target, border, value=IGNORE)
        return (pixels.flip(-1), target.flip(-1)) if mirrored else (pixels, target)


@torch.no_grad()
def predict(
    segmenter: Segmenter,
    dataset: Dataset,
    split: str,
    config: SegmentationEvaluation,
    *,
    device: torch.device,
    precision: str,
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w"]]]:
    """Predicted class ids of every image of a split at its own size: argmax of the mean logits."""
    segmenter.eval()
    for image_id in dataset.ids(split):
        image = dataset.image(image_id)
        total: Tensor | None = None
        for scale in config.scales:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            pixels = to_tensor(image.resize(size, Image.Resampling.BICUBIC), segmenter.mean, segmenter.std)
            views = torch.stack([pixels, pixels.flip(-1)] if config.flip else [pixels])
            with autocast(device, precision):
                logits = segmenter(views.to(device)).float()
            if not torch.isfinite(logits).all():
                raise DivergedError(f"scores of the image {image_id} are not finite")
            merged = (logits[0] + logits[1].flip(-1)) / 2 if config.flip else logits[0]
            merged = F.interpolate(merged[None], size=(image.height, image.width), mode="bilinear", align_corners=False)
            total = merged if total is None else total + merged
        assert total is not None  # the configuration has at least one scale
        yield image_id, total[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


def evaluate(predictions: Iterator[tuple[str, UInt8[np.ndarray, "h w"]]], dataset: Dataset) -> Int64[np.ndarray, "k k"]:
    """One confusion matrix over all predicted images that have a mask."""
    classes = len(dataset.class_names) + 1
    total = np.zeros((classes, classes), dtype=np.int64)
    for image_id, prediction in predictions:
        mask = dataset.mask(image_id)
        if mask is not None:
            total += confusion_matrix(prediction, mask, classes)
    return total
