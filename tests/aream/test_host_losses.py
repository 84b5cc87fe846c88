"""Losses that a host brings along: from the first epoch on, whole or in pieces, on one rank or on several."""

from __future__ import annotations

import itertools

import pytest
import torch
from small_networks import CONFIG, CPU
from thread_ranks import numbers

from aream.backbones import mctformer_plus
from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.engine.losses import classification_loss
from aream.methods import aream, mctformer
from aream.train import Training

LABELS = torch.tensor([[1.0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6, [1] * 6, [0, 0, 0, 1, 1, 0]])


def training(weight: float, epoch: int, method=None) -> Training:
    torch.manual_seed(0)
    size = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 3, "heads": 2, "drop_path": 0.0}
    host = mctformer_plus.build(mctformer_plus.Config(**size, contrast_weight=weight), 6, 32)
    dataset = shapes.build(shapes.Config(image_size=32, train_images=6, val_images=2))
    made = Training(host.train(), method or mctformer.PlainHost(), dataset, CONFIG, 0, device=CPU)
    made.epoch = epoch
    return made


def batch_of(count: int) -> Batch:
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return Batch(images, LABELS[:count], tuple(f"image_{index}" for index in range(count)))


def gradients(made: Training):
    return [None if p.grad is None else p.grad.clone() for p in made.backbone.parameters()]


@pytest.mark.parametrize("epoch", [0, 1], ids=["warm-up", "after"])
def test_the_hosts_loss_trains_it_in_every_epoch(epoch):
    """Losses and gradients are those of the sum, by autograd on the host alone."""
    made, batch = training(2.0, epoch), batch_of(5)
    losses = numbers(made.gradients(batch, 5, "here"))
    found = gradients(made)
    made.backbone.zero_grad()
    output = made.backbone(batch.images)
    contrast = output.host_losses(batch.labels)["contrast"]
    (classification_loss(output.logits, batch.labels) + contrast).backward()
    assert losses["train/contrast_loss"] == pytest.approx(contrast.item())
    for one, other in zip(found, gradients(made), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cuts", [(0, 2, 4, 5), (0, 1, 5)], ids=str)
def test_pieces_and_ranks_add_up_to_the_batch(cuts):
    """Unequal parts, one of them with an image without any class."""
    whole, batch = training(2.0, 1), batch_of(5)
    expected = numbers(whole.gradients(batch, 5, "here"))
    pieces = training(2.0, 1)
    assert numbers(pieces.gradients(batch, cuts[1] or 1, "here")) == pytest.approx(expected, rel=1e-5)
    on_ranks, total = [], dict.fromkeys(expected, 0.0)
    for first, last in itertools.pairwise(cuts):  # what ranks do before their sums meet
        made = training(2.0, 1)
        part = Batch(batch.images[first:last], batch.labels[first:last], batch.ids[first:last], first, batch.ids)
        for name, value in numbers(made.gradients(part, 5, "here")).items():
            total[name] += value
        on_ranks.append(gradients(made))
    assert total == pytest.approx(expected, rel=1e-5)
    for one, other, *parts in zip(gradients(whole), gradients(pieces), *on_ranks, strict=True):
        if one is not None:
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(sum(parts), one, rtol=1e-4, atol=1e-6)


def test_they_stand_beside_the_methods_losses_in_the_report():
    method = aream.build(aream.resolve(aream.Config(label_flip=False), 3))
    rows = []
    training(1.0, 0, method).run(2, report=rows.append)
    assert [("train/contrast_loss" in row, "train/affinity_loss" in row) for row in rows] == [
        (True, False),
        (True, True),
    ]
    rows.clear()
    training(0.0, 0, method).run(1, report=rows.append)
    assert "train/contrast_loss" not in rows[0]
