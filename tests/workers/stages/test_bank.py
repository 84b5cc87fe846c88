"""Trainings that share their batches in one process: the bytes of each alone, each image loaded once, faults apart."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import types
import weakref

import pytest
import torch
from small_trials import TRIAL, Killed, Work, fingerprint, with_method

from aream.bank import Bank
from aream.config import Component
from aream.datasets.shapes import Shapes
from aream.errors import DataError, Interrupted, StageFailed
from aream.methods import aream, mctformer
from aream.train import Training
from workers.pipelines import training_stage
from workers.stages import train_cam

DRAWING = dataclasses.replace(
    TRIAL,
    backbone=dataclasses.replace(TRIAL.backbone, config=dataclasses.replace(TRIAL.backbone.config, drop_path=0.3)),
)
"""Its steps draw random numbers."""
VARIANTS = (
    with_method(DRAWING),
    with_method(DRAWING, alpha_low=0.2, label_mode="online"),
    with_method(DRAWING, label_mode="train", affinity_reach="deep"),
    dataclasses.replace(DRAWING, method=Component(name="mctformer", config=mctformer.Config())),
)


@functools.cache
def stages(trials=VARIANTS):
    return [training_stage(trial, fingerprint) for trial in trials]


def with_inputs(folder, **options):
    """A store that has the warm-up."""
    work = Work(folder, **options)
    work.runner.run(stages()[0].inputs["warmup"])
    work.rows.clear()
    return work


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    work = with_inputs(tmp_path_factory.mktemp("alone"))
    return [(work.digests(stage), work.store.record(stage.key)) for stage in stages()]


def test_what_shares_a_bank():
    first, *others = stages()
    assert {stage.shared_pass for stage in others} == {first.shared_pass}
    apart = (
        dataclasses.replace(DRAWING, seed=1),
        dataclasses.replace(DRAWING, train=dataclasses.replace(DRAWING.train, lr=1e-4)),
        TRIAL,
    )
    assert first.shared_pass not in {stage.shared_pass for stage in stages(apart)}
    assert training_stage(DRAWING, fingerprint, 2).shared_pass is None
    assert first.inputs["warmup"].shared_pass is None


@pytest.mark.slow
def test_a_bank_has_the_bytes_and_rows_of_each_alone(tmp_path, alone, monkeypatch):
    work, planned = with_inputs(tmp_path), stages()
    seen = dict.fromkeys(("image",), 0)
    original = Shapes.image

    def counting(*arguments):
        seen["image"] += 1
        return original(*arguments)

    monkeypatch.setattr(Shapes, "image", counting)
    began = time.monotonic()
    records = list(work.runner.run_all(planned))
    assert sum(record.seconds for record in records) <= time.monotonic() - began
    assert all(record.seconds > 0 for record in records)
    after_warmup, steps, batch, val = 2, 2, 4, 4
    assert seen["image"] == after_warmup * steps * batch + val  # the one batch of val images is the same in each epoch
    for stage, record, (digests, expected) in zip(planned, records, alone, strict=True):
        assert work.digests(stage) == digests
        assert record.metrics == expected.metrics
        assert record.history == expected.history
    assert not list((tmp_path / "store" / "checkpoints").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_s", [60.0, 0.0], ids=["every epoch", "every step"])
@pytest.mark.parametrize("die_after", [2, 7])
def test_a_killed_bank_continues_exactly(tmp_path, alone, die_after, checkpoint_s):
    with pytest.raises(Killed):
        list(with_inputs(tmp_path, die_after=die_after, checkpoint_s=checkpoint_s).runner.run_all(stages()))
    work = Work(tmp_path, checkpoint_s=checkpoint_s)
    list(work.runner.run_all(stages()))
    assert [work.digests(stage) for stage in stages()] == [digests for digests, _ in alone]


@pytest.mark.slow
def test_those_behind_catch_up(tmp_path, alone):
    """Two have trained an epoch by themselves."""
    for stage in stages()[1:3]:
        with pytest.raises(Killed):
            with_inputs(tmp_path, die_after=3, checkpoint_s=0.0).runner.run(stage)
    work = Work(tmp_path)
    list(work.runner.run_all(stages()))
    assert [work.digests(stage) for stage in stages()] == [digests for digests, _ in alone]


@pytest.mark.slow
def test_one_that_diverges_ends_no_other(tmp_path, alone, monkeypatch):
    original = Training.train_step
    gone, alive = [], []

    def spoiled(self, batch):
        alive.extend(training() is not None for training in gone)
        if isinstance(self.method, aream.AReAM) and self.method.config.alpha_low == 0.2 and self.step == 1:
            with torch.no_grad():
                next(self.backbone.parameters()).fill_(float("nan"))
            gone.append(weakref.ref(self))
        return original(self, batch)

    monkeypatch.setattr(Training, "train_step", spoiled)
    work, failing = with_inputs(tmp_path), stages()[1]
    with pytest.raises(StageFailed, match=rf"{failing.key}: .*not finite"):
        list(work.runner.run_all(stages()))
    assert alive
    assert not any(alive)  # its memory is free for the others
    assert [stage.key for stage in stages() if not work.store.has(stage.key)] == [failing.key]
    for index in (0, 2, 3):
        assert work.digests(stages()[index]) == alone[index][0]


@pytest.mark.slow
def test_what_memory_does_not_hold_is_left_out(tmp_path, alone, monkeypatch):
    work, (first, *others) = with_inputs(tmp_path), stages()
    work.runner.runtime = dataclasses.replace(work.runner.runtime, memory_bytes=1)
    loaded, original = [], Shapes.image
    monkeypatch.setattr(Shapes, "image", lambda *arguments: (loaded.append(1), original(*arguments))[1])
    for name in ("aream.bank", "workers.stage_runner"):  # an image takes a second, and nothing else takes any time
        monkeypatch.setattr(f"{name}.time", types.SimpleNamespace(monotonic=lambda: float(len(loaded))))
    with pytest.raises(StageFailed, match=rf"{others[0].key}: memory does not hold it beside 1 of the trainings"):
        list(work.runner.run_all(stages()))
    assert work.store.record(first.key).seconds == len(loaded) > 0, "others have no part in it"
    assert work.digests(first) == alone[0][0]
    assert not any(work.store.has(stage.key) for stage in others)


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_the_failure_of_each(tmp_path, monkeypatch):
    work, original, asked = with_inputs(tmp_path), Shapes.image, []

    def broken(self, image_id):
        asked.append(image_id)
        if len(asked) > 6:
            raise DataError("it is torn")
        return original(self, image_id)

    monkeypatch.setattr(Shapes, "image", broken)
    parts = [work.runner._found_or_taken(stage, contextlib.ExitStack()) for stage in stages()]
    found = list(work.runner._compute(parts))
    assert [str(failure) for failure in found] == [f"{stage.key}: it is torn" for stage in stages()]


@pytest.mark.slow
def test_memory_that_others_have_takes_nothing_from_one_that_could_shrink(tmp_path, monkeypatch):
    """It leaves the bank, and trains by itself as if it had never been there."""
    roomy = dataclasses.replace(DRAWING.train, out_of_memory="accumulate")
    planned = [training_stage(dataclasses.replace(trial, train=roomy), fingerprint) for trial in VARIANTS]
    original = Training.gradients

    def short(self, batch, size, place):
        if isinstance(self.method, aream.AReAM) and self.method.config.alpha_low == 0.2 and self.step == 1:
            raise torch.OutOfMemoryError("others have it")
        return original(self, batch, size, place)

    work = Work(tmp_path)
    work.runner.run(planned[0].inputs["warmup"])
    with monkeypatch.context() as patched:
        patched.setattr(Training, "gradients", short)
        with pytest.raises(StageFailed, match=rf"{planned[1].key}: out of memory"):
            list(work.runner.run_all(planned))
    assert [stage.key for stage in planned if not work.store.has(stage.key)] == [planned[1].key]
    record = work.runner.run(planned[1])
    assert {row["train/micro_batch"] for row in record.history if "train/micro_batch" in row} == {4.0}


@pytest.mark.slow
def test_what_one_more_training_needs_is_what_one_keeps(tmp_path):
    """Weights, those of the best epoch, gradients, and AdamW's two moments: five numbers a parameter."""
    work = with_inputs(tmp_path)
    training = train_cam.prepared(stages()[1].config, None, work.runner.runtime)
    bank = Bank()
    assert bank.each_needs() == 0
    bank.add(training, training.moves(report=lambda row: None))
    bank.begin()
    parameters = sum(one.numel() for one in training.backbone.parameters())
    assert bank.each_needs() == pytest.approx(5 * 4 * parameters, rel=0.05)


@pytest.mark.slow
def test_a_bank_that_is_stopped_keeps_the_state_of_each(tmp_path, alone):
    work = with_inputs(tmp_path)
    work.runner.stop = lambda: sum("train/affinity_loss" in row for _, row in work.rows) >= 2
    with pytest.raises(Interrupted):
        list(work.runner.run_all(stages()))
    kept = {path.name for path in (tmp_path / "store" / "checkpoints").glob("*")}
    assert kept == {f"{stage.key}.pt" for stage in stages()}
    again = Work(tmp_path)
    list(again.runner.run_all(stages()))
    assert [again.digests(stage) for stage in stages()] == [digests for digests, _ in alone]
