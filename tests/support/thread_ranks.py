"""Ranks that are threads of one process, and their parts of a batch."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from aream.engine.batches import Batch
from aream.engine.ranks import part_of

PATIENCE_S = 240


class ThreadRanks:
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, board: dict) -> None:
        self.rank, self.size, self.barrier, self.board = rank, size, barrier, board

    def _all(self, value):
        self.board[self.rank] = value
        self.barrier.wait(PATIENCE_S)
        values = [self.board[rank] for rank in range(self.size)]
        self.barrier.wait(PATIENCE_S)
        return values

    def add(self, tensors):
        copies = self._all([tensor.clone() for tensor in tensors])
        for index, tensor in enumerate(tensors):
            tensor.copy_(sum(copy[index] for copy in copies[1:]) + copies[0][index])

    def collect(self, value):
        return self._all(value)

    def agree(self, wish):
        return any(self._all(wish))

    def together(self):
        return contextlib.nullcontext()


def on_ranks(size: int, work):
    """``work(ranks)`` of every rank."""
    barrier, board = threading.Barrier(size), {}
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [ThreadRanks(rank, size, barrier, board) for rank in range(size)]))


def whole_batch(count: int, side: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(3)
    labels = (torch.rand(count, 6, generator=generator) > 0.6).double()
    labels[:, 0] = 1
    images = torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)
    return Batch(images, labels, tuple(f"image_{index}" for index in range(count)))


def own_part(batch: Batch, rank: int, size: int) -> Batch:
    part = part_of(len(batch.ids), rank, size)
    return Batch(batch.images[part], batch.labels[part], batch.ids[part], part.start, batch.ids)


def numbers(figures: dict) -> dict[str, float]:
    """Losses that lie on a device."""
    return {name: value.item() for name, value in figures.items()}


def check_rows_alike(rows, expected) -> None:
    """Rows of a training's epochs by several processes are those of one. A share counts pixels and pairs, of which
    rounding may turn a few."""
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            few = {"abs": 1e-3} if name.endswith("_share") else {"rel": 1e-4}
            assert row[name] == pytest.approx(value, **few), name


def check_ranks_add_up(prepared, size: int, pieces: int, *, rel: float, atol: float, side: int = 32) -> dict:
    """Losses and gradients of ``size`` ranks, in passes of ``pieces`` images, are those of the whole batch alone.

    Returns the losses. ``side``: of the images, in pixels.
    """
    batch, trainings, alone = whole_batch(7, side), [prepared() for _ in range(size)], prepared()
    whole = numbers(alone.gradients(batch, 7, "here"))

    def work(ranks):
        made = trainings[ranks.rank]
        made.ranks = ranks
        return numbers(made.gradients(own_part(batch, ranks.rank, size), pieces, "here"))

    for made, losses in zip(trainings, on_ranks(size, work), strict=True):
        assert losses == pytest.approx(whole, rel=rel)
        for found, expected in zip(made.networks.parameters(), alone.networks.parameters(), strict=True):
            assert (found.grad is None) == (expected.grad is None)
            if expected.grad is not None:
                torch.testing.assert_close(found.grad, expected.grad, rtol=rel, atol=atol)
    if alone.method.network is not None:
        assert all(parameter.grad.any() for parameter in alone.method.network.parameters())
    return whole
