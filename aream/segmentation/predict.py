"""Predictions of a trained segmenter, over scales and mirrored or not, and how often they are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.crf.dense_crf import DenseCRF
from aream.data.dataset import Dataset
from aream.engine.loading import HERE, Loader, Loading
from aream.engine.steps import autocast
from aream.errors import DivergedError
from aream.images import to_tensor
from aream.metrics import confusion_matrix
from aream.segmentation.config import Merge, SegmentationEvaluation
from aream.segmenters.protocol import Predictor

Predictions = Iterator[tuple[str, UInt8[np.ndarray, "h w"]]]


@torch.no_grad()
def predict(
    segmenter: Predictor,
    dataset: Dataset,
    split: str,
    config: SegmentationEvaluation,
    *,
    device: torch.device,
    precision: str,
    loading: Loading = HERE,
) -> Predictions:
    """Predicted class ids of every image of a split at its own size.

    Raises:
        DivergedError: logits of an image are not finite.
    """
    segmenter.eval()
    crf = None if config.crf is None else DenseCRF(config.crf)
    ids = list(dataset.ids(split))
    loader = Loader[str, list[_Seen]](lambda one: _seen(segmenter, dataset.image(one), config), list, dataset, loading)
    for image_id, (seen,) in zip(ids, loader.batches([image_id] for image_id in ids), strict=True):
        views = _views(segmenter, seen, config.flip, device=device, precision=precision)
        scores = merged(_finite(views, image_id), config.merge)
        if crf is not None:
            scores = crf.apply(seen.image.permute(2, 0, 1).to(device), scores)
        yield image_id, scores.argmax(dim=0).to(torch.uint8).cpu().numpy()


@dataclass(frozen=True)
class _Seen:
    """An image, and what the network is to see of it."""

    image: UInt8[Tensor, "h w 3"]
    scales: list[Float[Tensor, "3 _ _"]]


def _seen(segmenter: Predictor, image: Image.Image, config: SegmentationEvaluation) -> _Seen:
    scaled = [image.resize(size, Image.Resampling.BICUBIC) for size in seen_sizes(image.size, config)]
    return _Seen(torch.from_numpy(np.array(image)), [to_tensor(one, segmenter.mean, segmenter.std) for one in scaled])


def seen_sizes(size: tuple[int, int], config: SegmentationEvaluation) -> list[tuple[int, int]]:
    """Width and height at which a network sees an image of this size, at one scale after the other."""
    width, height = size if config.image_size is None else (config.image_size, config.image_size)
    return [(max(1, round(width * scale)), max(1, round(height * scale))) for scale in config.scales]


def merged(views: Iterable[Float[Tensor, "k h w"]], rule: Merge) -> Float[Tensor, "k h w"]:
    """Class probabilities from the logits of one or more views; each pixel's sum to 1."""
    total: Tensor | None = None
    for logits in views:
        scores = logits if rule == "mean_logits" else logits.softmax(dim=0)
        if total is None:
            total, count = scores, 1
        else:
            total, count = torch.maximum(total, scores) if rule == "max_softmax" else total + scores, count + 1
    assert total is not None  # the configuration has at least one scale
    return (total / count).softmax(dim=0) if rule == "mean_logits" else total / total.sum(dim=0)


def _views(
    segmenter: Predictor, seen: _Seen, flip: bool, *, device: torch.device, precision: str
) -> Iterator[Float[Tensor, "k h w"]]:
    """Logits of each scale, upright and mirrored back, at the image's size."""
    for scaled in seen.scales:
        pixels = scaled.to(device, non_blocking=True)
        with autocast(device, precision):
            logits = segmenter(torch.stack([pixels, pixels.flip(-1)] if flip else [pixels])).float()
        whole = F.interpolate(logits, size=seen.image.shape[:2], mode="bilinear", align_corners=False)
        yield whole[0]
        if flip:
            yield whole[1].flip(-1)


def _finite(views: Iterable[Float[Tensor, "k h w"]], image_id: str) -> Iterator[Float[Tensor, "k h w"]]:
    for logits in views:
        if not torch.isfinite(logits).all():
            raise DivergedError(f"scores of the image {image_id} are not finite")
        yield logits


def evaluate(predictions: Predictions, dataset: Dataset) -> Int64[np.ndarray, "k k"]:
    """One confusion matrix over all predicted images that have a mask."""
    classes = len(dataset.class_names) + 1
    total = np.zeros((classes, classes), dtype=np.int64)
    for image_id, prediction in predictions:
        mask = dataset.mask(image_id)
        if mask is not None:
            total += confusion_matrix(prediction, mask, classes)
    return total
