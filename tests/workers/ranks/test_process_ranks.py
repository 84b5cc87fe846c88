"""What ranks say to each other, between processes forked from this one."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from small_trials import TRIAL, fingerprint, with_method
from thread_ranks import check_rows_alike

from aream.engine.randomness import random_state
from aream.engine.steps import MicroBatches
from aream.errors import DivergedError, OutOfMemory
from workers.pipelines import training_stage
from workers.processes.runtime import Runtime
from workers.ranks.process_group import ProcessRanks, RankLost
from workers.stages import train_cam


def _run(work, rank: int, size: int, rendezvous: Path, results) -> None:
    torch.set_num_threads(1)
    ranks = ProcessRanks(rank, size, rendezvous, gpu=False)
    try:
        results.put((rank, work(ranks)))
    finally:
        ranks.close()


def on_processes(folder: Path, size: int, work) -> list:
    """``work(ranks)`` of every rank, whatever of it can be sent."""
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_run, args=(work, rank, size, folder / "met", results)) for rank in range(size)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(240)
    return [found[rank] for rank in range(size)]


def caught(work) -> str:
    try:
        return str(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_sums_are_the_same_bits_on_all_ranks(tmp_path):
    def work(ranks):
        generator = torch.Generator().manual_seed(ranks.rank)
        tensors = [
            torch.randn(5, 3, generator=generator),
            torch.tensor(ranks.rank),
            torch.randn((), generator=generator, dtype=torch.float64),
            torch.randn(1000, generator=generator),
        ]
        before = [tensor.clone() for tensor in tensors]
        ranks.add(tensors)
        return [tensor.numpy() for tensor in before], [tensor.numpy() for tensor in tensors]

    found = on_processes(tmp_path, 3, work)
    for index in range(4):
        expected = sum(before[index] for before, _ in found)
        for _, after in found:
            assert after[index].shape == found[0][0][index].shape
            assert after[index] == pytest.approx(expected, rel=1e-5, abs=1e-6)
            assert after[index].tobytes() == found[0][1][index].tobytes()


def test_every_rank_gets_what_the_others_have(tmp_path):
    def work(ranks):
        parts = ranks.collect(torch.full((ranks.rank,), float(ranks.rank)))  # of the first rank, none
        state = ranks.from_first({"step": 3, "weights": torch.ones(2)} if ranks.rank == 0 else None)
        return torch.cat(parts).tolist(), state["step"], [ranks.agree(ranks.rank == 2), ranks.agree(False)]

    assert on_processes(tmp_path, 3, work) == [([1.0, 2.0, 2.0], 3, [True, False])] * 3


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_an_error_of_one_rank_is_raised_on_all(tmp_path, guilty):
    def train(ranks):
        with ranks.together():
            ranks.agree(False)
            if ranks.rank == guilty:
                raise DivergedError("loss is not finite")
            ranks.add([torch.ones(2)])

    assert (
        on_processes(tmp_path, 3, lambda ranks: caught(lambda: train(ranks)))
        == ["DivergedError: loss is not finite"] * 3
    )


def test_an_error_that_is_not_ours_goes_as_text(tmp_path):
    class Unknown(Exception):
        pass

    def train(ranks):
        with ranks.together():
            if ranks.rank == 1:
                raise Unknown("no such thing")
            ranks.collect(torch.ones(2))

    first, second = on_processes(tmp_path, 2, lambda ranks: caught(lambda: train(ranks)))
    assert first.startswith("RuntimeError: process 1: Unknown: no such thing\nTraceback")
    assert second == "Unknown: no such thing"


def test_what_one_rank_cannot_hold_all_do_in_pieces(tmp_path):
    """And the step goes on after it, in step."""

    def train(ranks):
        pieces, asked = MicroBatches(8, "accumulate", "advice"), []

        def gradients(size):
            asked.append(size)
            with ranks.together():
                if ranks.rank == 1 and size > 2:
                    torch.empty(2**50, dtype=torch.uint8)
                summed = torch.tensor([float(size)])
                ranks.add([summed])
            return summed.item()

        return pieces.run(torch.nn.Linear(1, 1), gradients, "here"), asked

    assert on_processes(tmp_path, 2, train) == [(4.0, [8, 4, 2])] * 2


def test_all_ranks_say_what_to_change_where_memory_holds_nothing(tmp_path):
    def train(ranks):
        def gradients(size):
            with ranks.together():
                if ranks.rank == 1:
                    torch.empty(2**50, dtype=torch.uint8)
                ranks.meet()

        with ranks.together():
            MicroBatches(8, "fail", "take less").run(torch.nn.Linear(1, 1), gradients, "here")

    for said in on_processes(tmp_path, 2, lambda ranks: caught(lambda: train(ranks))):
        assert said.startswith(f"{OutOfMemory.__name__}: out of memory in here, 8 images a batch: take less")


def test_a_rank_that_is_gone_is_lost(tmp_path):
    def train(ranks):
        ranks.meet()
        if ranks.rank == 1:
            os._exit(9)
        ranks.add([torch.ones(2)])

    def work(ranks):
        return caught(lambda: train(ranks))

    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_run, args=(work, rank, 2, tmp_path / "met", results)) for rank in range(2)]
    for process in processes:
        process.start()
    rank, said = results.get(timeout=240)
    for process in processes:
        process.join(240)
    assert rank == 0
    assert said.startswith(f"{RankLost.__name__}: another process of this training does not answer")


ENTROPY = {"weights": "entropy_online", "entropy_prob": "sum", "supervised_layers": "all"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "changes"),
    [
        pytest.param(3, {"label_mode": "train"}, id="3, labels in train mode"),
        pytest.param(2, {}, id="2", marks=pytest.mark.integration),
        pytest.param(3, ENTROPY, id="3, entropy", marks=pytest.mark.integration),
    ],
)
def test_ranks_take_the_steps_of_one_process(tmp_path, size, changes):
    """Four steps with stochastic depth, augmentation and affinity loss; 4 images a batch, so 3 parts are unequal."""
    trial = with_method(TRIAL, alpha_low=0.3, alpha_high=0.45, affinity_weight=5.0, **changes)
    trial = dataclasses.replace(trial, train=dataclasses.replace(trial.train, epochs=2, warmup_epochs=0))
    config = training_stage(trial, fingerprint).config

    def train(ranks):
        training = train_cam.prepared(config, None, Runtime(), ranks)
        with torch.no_grad():
            for index, block in enumerate(training.backbone.blocks):  # entropies of layers that differ by more
                block.attn.qkv.weight.mul_(20 * (index + 1) if "weights" in changes else 1)  # than their rounding
        training.run(trial.train.epochs, report=lambda row: None)
        weights = {name: value.numpy() for name, value in training.backbone.state_dict().items()}
        return training.history, weights, random_state()["torch"].numpy()

    ((history, weights, generator),) = on_processes(tmp_path, 1, train)
    assert all(row["train/affinity_loss"] > 1e-3 for row in history)
    for rows, found, state in on_processes(tmp_path / "several", size, train):
        check_rows_alike(rows, history)
        for name, value in weights.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        assert (state == generator).all()
