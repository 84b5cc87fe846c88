"""Training a segmenter on pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aream.data.dataset import Dataset
from aream.engine.loading import HERE, Loading
from aream.engine.poly_sgd import PolySgdRun, Samples, learning_groups
from aream.engine.steps import autocast, refuse_loss
from aream.metrics import IGNORE
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.crops import Sample, TrainingCrops
from aream.segmenters.protocol import Segmenter

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


class SegmentationRun(PolySgdRun):
    """One segmenter's training."""

    LOSS = "train/segmentation_loss"
    NOTHING = "no crop of {} images has a labelled pixel"

    def __init__(
        self,
        segmenter: Segmenter,
        dataset: Dataset,
        read_labels: ReadLabels,
        config: SegmentationTraining,
        seed: int,
        *,
        device: torch.device,
        loading: Loading = HERE,
    ) -> None:
        self.segmenter, self.read_labels = segmenter, read_labels
        self.crops = TrainingCrops(config, seed, segmenter.mean, segmenter.std)
        super().__init__(
            segmenter,
            learning_groups(
                segmenter,
                segmenter.head_parameters(),
                config,
                bias_lr_scale=config.bias_lr_scale,
                decay_biases=config.decay_biases,
            ),
            dataset,
            config,
            seed,
            device=device,
            section="segmentation.train",
            loading=loading,
            power=config.poly_power,
            iterations=config.iterations,
        )

    def sample(self, image_id: str, epoch: int, step: int) -> Sample:
        scale = self.crops.batch_scale(epoch, step)
        return self.crops.crop(self.dataset.image(image_id), self.read_labels(image_id), epoch, image_id, scale)

    def gradients(self, batch: Samples, size: int, place: str) -> dict[str, Float64[Tensor, ""]]:
        self.optimizer.zero_grad(set_to_none=True)
        labelled = sum(int((labels != IGNORE).sum()) for _, labels in batch.content)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in batch.split(size):
            images, labels = zip(*part.content, strict=True)
            with autocast(self.device, self.precision):
                logits = self.segmenter(torch.stack(images).to(self.device))
            loss = segmentation_loss(logits.float(), torch.stack(labels).to(self.device), labelled)
            refuse_loss(self.checks, {"segmentation": loss}, loss, place, part.all_ids)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        return {self.LOSS: total} if labelled else {}
