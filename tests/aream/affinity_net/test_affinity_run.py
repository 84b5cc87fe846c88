"""What an AffinityNet's training says of itself where the scores are sure of little, or of nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNetConfig
from aream.affinity_net.train import AffinityRun, AffinityTraining
from aream.datasets import shapes
from aream.engine.checkpoints import Checkpoints
from aream.errors import DataError

DATA = shapes.build(shapes.Config(image_size=80, train_images=4, val_images=1))
NOTHING = np.zeros((2, 2, 80, 80), dtype=np.float32)
"""Scores of no image: every position is 255."""


def sure(foreground: slice) -> np.ndarray:
    """Background everywhere but in some columns, which are the class's, at both alphas."""
    scores = np.zeros((2, 2, 80, 80), dtype=np.float32)
    scores[:, 0] = 1.0
    scores[:, 0, :, foreground], scores[:, 1, :, foreground] = 0.0, 1.0
    return scores


def rows(scores: dict[str, np.ndarray], epochs: int = 1) -> list[dict[str, float]]:
    """Of a training on these images alone, whose rate is too small to change a weight."""
    torch.manual_seed(0)
    network = affinity_network.build(AffinityNetConfig(width=2, depths=(1, 1, 1, 1)))
    config = AffinityTraining(epochs=epochs, batch_size=1, crop=72, lr=1e-30, weight_decay=0.0)
    run = AffinityRun(network, DATA, scores.__getitem__, config, 0, device=torch.device("cpu"))
    network.eval().train = lambda mode=True: network  # no dropout, which is drawn step by step
    run.ids, run.steps, run.total, found = list(scores), len(scores), len(scores), []
    run.run(report=found.append, checkpoints=Checkpoints(save=lambda state: None))
    return found


def test_scores_that_are_sure_of_nothing_are_an_error_and_no_loss_of_zero():
    with pytest.raises(DataError, match=r"epoch 1: in none of 4 images.*labels\.refiner\.targets.*nothing was learned"):
        rows(dict.fromkeys(DATA.ids("train"), NOTHING))


def test_images_without_a_pair_do_not_make_the_mean_better():
    first, second, third, fourth = DATA.ids("train")
    both = sure(slice(30, 50))
    (with_blanks,) = rows({first: both, second: NOTHING, third: both, fourth: NOTHING})
    (without,) = rows({first: both, third: both})
    assert with_blanks == pytest.approx(without, rel=1e-4)
    assert with_blanks["train/affinity_loss"] > 0


def test_a_kind_of_pairs_that_is_nowhere_has_no_figure():
    (row,) = rows(dict.fromkeys(DATA.ids("train"), sure(slice(0, 0))))
    assert row.keys() == {"epoch", "train/affinity_loss", "train/affinity_background_loss"}
    assert row["train/affinity_loss"] == pytest.approx(row["train/affinity_background_loss"] / 4)
