"""Scores of a host on the val split."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from aream.backbones.protocol import Backbone
from aream.data.dataset import Dataset
from aream.engine.batches import Batch, SquareImages
from aream.engine.ranks import ALONE, Ranks
from aream.engine.steps import autocast


@runtime_checkable
class ValImages(Protocol):
    def batches(self, ids: Sequence[str], batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """As :meth:`aream.engine.batches.SquareImages.batches`."""


Scores = tuple[Float[np.ndarray, "images c"], Float[np.ndarray, "images c"]]
"""Scores and labels of every image, in list order."""


def validation_scores(backbone: Backbone, dataset: Dataset, **options: Any) -> Scores:
    """What :func:`scores_in_turn` returns, without a halt; takes the same ``options``."""
    turns = scores_in_turn(backbone, dataset, **options)
    while True:
        try:
            next(turns)
        except StopIteration as end:
            found: Scores = end.value
            return found


def scores_in_turn(
    backbone: Backbone,
    dataset: Dataset,
    *,
    side: int,
    images: ValImages | None = None,
    batch_size: int,
    device: torch.device,
    precision: str,
    ranks: Ranks = ALONE,
    after_each: Callable[[], None] = lambda: None,
) -> Generator[int, None, Scores]:
    """Scores and labels of every image, in list order; the ranks take turns at the batches and know all in the end.
    Halts before each batch, with its number.

    Args:
        images: of that side; None: each is loaded here.
        after_each: called as often on every rank, after each batch.
    """
    backbone.eval()
    count, classes = len(dataset.ids("val")), len(dataset.class_names)
    images = images or SquareImages(dataset, side, (backbone.mean, backbone.std))
    batches = images.batches(dataset.ids("val"), batch_size, ranks.rank, ranks.size)
    scores, labels = [torch.zeros(0, classes)], [torch.zeros(0, classes)]
    for number in range(math.ceil(count / (batch_size * ranks.size))):
        yield number
        batch = next(batches, None)
        if batch is not None:
            with torch.no_grad(), autocast(device, precision):
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
