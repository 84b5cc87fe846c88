"""Scores of a host on the val split."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from aream.backbones.protocol import Backbone
from aream.data.dataset import Dataset
from aream.engine.batches import SquareImages
from aream.engine.ranks import ALONE, Ranks
from aream.engine.steps import autocast


@torch.no_grad()
def validation_scores(
    backbone: Backbone,
    dataset: Dataset,
    *,
    side: int,
    images: SquareImages | None = None,
    batch_size: int,
    device: torch.device,
    precision: str,
    ranks: Ranks = ALONE,
    after_each: Callable[[], None] = lambda: None,
) -> tuple[Float[np.ndarray, "images c"], Float[np.ndarray, "images c"]]:
    """Scores and labels of every image, in list order; the ranks take turns at the batches and know all in the end.

    Args:
        images: of that side; None: each is loaded here.
        after_each: called as often on every rank, after each batch.
    """
    backbone.eval()
    count, classes = len(dataset.ids("val")), len(dataset.class_names)
    images = images or SquareImages(dataset, side, (backbone.mean, backbone.std))
    batches = images.batches(dataset.ids("val"), batch_size, ranks.rank, ranks.size)
    scores, labels = [torch.zeros(0, classes)], [torch.zeros(0, classes)]
    for _ in range(math.ceil(count / (batch_size * ranks.size))):
        batch = next(batches, None)
        if batch is not None:
            with autocast(device, precision):
                output = backbone(batch.images.to(device, non_blocking=True))
            scores.append(output.scores.float().cpu())
            labels.append(batch.labels)
        after_each()
    turns = [
        [
            index
            for start in range(rank * batch_size, count, batch_size * ranks.size)
            for index in range(start, min(start + batch_size, count))
        ]
        for rank in range(ranks.size)
    ]
    order = np.argsort(np.concatenate([np.asarray(turn, dtype=np.int64) for turn in turns]))
    every = (torch.cat(ranks.collect(torch.cat(part))).numpy()[order] for part in (scores, labels))
    return next(every), next(every)
