"""Several ranks against one: the same losses and gradients, apart from the order that floats are added in."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from small_networks import CONFIG, CPU, NETWORKS, host, sharpen
from thread_ranks import ThreadRanks, check_ranks_add_up, on_ranks
from torch import nn
from torch.nn import functional as F

from aream.augmentations import deit_on_device
from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import Batch, TrainingBatches
from aream.engine.randomness import WholeBatchDraws
from aream.engine.ranks import part_of
from aream.engine.validation import validation_scores
from aream.errors import ConfigError
from aream.methods import aream, mctformer
from aream.train import Training

VARIANTS = {
    "uniform": {},
    "entropy": {"weights": "entropy_online", "entropy_prob": "sum", "supervised_layers": "all"},
    "online": {"label_mode": "online"},
    "online entropy": {
        "label_mode": "online", "weights": "entropy_online", "entropy_prob": "sum",
        "supervised_layers": "all", "reduce": "sum",
    },
    "train": {"label_mode": "train", "label_scales": (1.0, 1.5)},
    "no method": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=14, val_images=7))


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.filterwarnings("ignore:.*")
def test_gradients_of_ranks_add_up_to_those_of_the_batch(dataset, size, changes, network):
    """Parts of unequal size and unequal pair counts, without random numbers; the affinity loss itself is float32."""
    method = mctformer.PlainHost() if changes is None else aream.build(
        aream.resolve(aream.Config(alpha_low=0.3, alpha_high=0.45, affinity_weight=10.0, **(changes or {})), 3)
    )  # fmt: skip

    def prepared() -> Training:
        training = Training(NETWORKS[network]().double(), method, dataset, CONFIG, 0, device=CPU)
        sharpen(training.backbone)
        training.backbone.train()
        training.epoch = 1
        return training

    losses = check_ranks_add_up(prepared, size, 7, rel=1e-5, atol=1e-5)
    assert changes is None or losses["train/affinity_loss"] > 0.01


@pytest.mark.parametrize(
    "augmentation",
    [CONFIG.augmentation, Component(name="deit_on_device", config=deit_on_device.Config())],
    ids=["on the CPU", "on the device"],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_of_every_batch_are_the_batch(dataset, size, augmentation):
    """Order, pixels and augmentation of each image are those of one process."""

    def batches(rank: int, ranks: int, step: int = 0) -> list[Batch]:
        made = TrainingBatches(
            dataset, side=32, batch_size=7, augmentation=augmentation, mean=(0.5,) * 3, std=(0.5,) * 3, seed=5,
            rank=rank, ranks=ranks,
        )  # fmt: skip
        return list(made.epoch(3, step))

    expected, parts = batches(0, 1), [batches(rank, size) for rank in range(size)]
    for whole, *own in zip(expected, *parts, strict=True):
        assert [image for part in own for image in part.ids] == list(whole.ids)
        assert torch.equal(torch.cat([part.images for part in own]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in own]), whole.labels)
        assert [part.first for part in own] == [sum(len(part.ids) for part in own[:index]) for index in range(size)]
        assert all(list(part.all_ids) == list(whole.ids) for part in own)
    assert [part.ids for part in batches(size - 1, size, 1)] == [part.ids for part in parts[-1][1:]]


@pytest.mark.parametrize(("size", "batch_size"), [(1, 3), (2, 3), (3, 2), (3, 7), (7, 1), (9, 2)])
def test_every_rank_knows_the_scores_of_all_val_images(dataset, size, batch_size):
    networks = [host() for _ in range(max(size, 1))]
    expected = validation_scores(networks[0], dataset, side=32, batch_size=7, device=CPU, precision="fp32")
    asked = [0] * size

    def work(ranks):
        def each():
            asked[ranks.rank] += 1

        return validation_scores(
            networks[ranks.rank], dataset, side=32, batch_size=batch_size, device=CPU, precision="fp32", ranks=ranks,
            after_each=each,
        )  # fmt: skip

    for scores, labels in on_ranks(size, work):
        np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(labels, expected[1])
    assert len(set(asked)) == 1


class Drawing(nn.Module):
    """Draws for images as networks do: stochastic depth, dropout, dropout in place."""

    def forward(self, images):
        kept = images.new_empty((len(images), 1)).bernoulli_(0.5)
        return F.dropout(F.dropout(images * kept, 0.3, self.training) + 1, 0.3, self.training, inplace=True)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_an_image_meets_the_same_random_numbers_on_any_number_of_ranks(size):
    images, network = torch.randn(5, 40), Drawing()
    torch.manual_seed(1)
    expected, after = network(images), torch.get_rng_state()
    for rank in range(size):
        part = part_of(5, rank, size)
        torch.manual_seed(1)
        with WholeBatchDraws(part.start, part.stop - part.start, 5):
            assert torch.equal(network(images[part]), expected[part])
        assert torch.equal(torch.get_rng_state(), after)


def test_nothing_is_drawn_where_a_single_process_draws_nothing():
    before = torch.get_rng_state()
    images = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    with WholeBatchDraws(0, 2, 4):
        assert torch.equal(F.dropout(images, 0.5, False), images)
        assert torch.equal(F.dropout(images, 0.0, True), images)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.rand(2),
        lambda x: torch.rand_like(x),
        lambda x: x.normal_(),
        lambda x: F.dropout2d(x),
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1),
        lambda x: F.scaled_dot_product_attention(x, x, x, None, 0.1),
        lambda x: nn.MultiheadAttention(4, 1, dropout=0.1)(x[0], x[0], x[0]),
        lambda x: x.new_empty(4, 4).bernoulli_(),
    ],
)
def test_other_random_numbers_are_refused(draw):
    images = torch.zeros(2, 3, 3, 4)
    with WholeBatchDraws(0, 2, 4), pytest.raises(ConfigError, match="train it with one process"):
        draw(images)


def test_what_ranks_cannot_train_is_refused(dataset):
    ranks = ThreadRanks(0, 7, threading.Barrier(7), {})
    with pytest.raises(ConfigError, match=r"train\.batch_size: need an image for each of the 7 processes.*got 6"):
        Training(host(), None, dataset, CONFIG, 0, device=CPU, ranks=ranks)
    backbone = host()
    backbone.norm = nn.BatchNorm1d(12)
    with pytest.raises(ConfigError, match="batch norm"):
        Training(backbone, None, dataset, CONFIG, 0, device=CPU, ranks=ThreadRanks(0, 2, threading.Barrier(2), {}))
