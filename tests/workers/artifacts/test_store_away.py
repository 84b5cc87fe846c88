"""A store that is away for longer than is waited costs no training: what was trained is published by the next try."""

from __future__ import annotations

import errno
import os
import time

import pytest
from faulty_proxy import FaultyProxy
from safetensors import SafetensorError
from small_trials import TRIAL, Work, fingerprint

from aream.config import Component
from aream.errors import StageHeld, StoreUnavailable
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.train import SegmentationRun
from aream.segmenters import deeplab
from aream.train import Training
from workers.artifacts.leases import Leases
from workers.artifacts.storages.file import FolderStorage
from workers.artifacts.storages.s3 import S3Storage
from workers.artifacts.store import ArtifactStore
from workers.artifacts.waits import Waits
from workers.pipelines import segmentation_stage, training_stage, variant_stages
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner
from workers.trial import SegmentationConfig

PATIENCE_S, TTL_S = 1.0, 1.5


@pytest.fixture
def proxy(s3_endpoint):
    with FaultyProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def trained(monkeypatch):
    """The epochs that were computed."""
    epochs = []
    for training in (Training, SegmentationRun):

        def counted(self, checkpoints, real=training.epoch_row):
            epochs.append(type(self).__name__)
            return real(self, checkpoints)

        monkeypatch.setattr(training, "epoch_row", counted)
    return epochs


def runner(proxy, bucket, scratch, report=lambda stage, row: None) -> StageRunner:
    storage = S3Storage(bucket, "p", proxy.url, Waits(patience_seconds=PATIENCE_S))
    return StageRunner(ArtifactStore(storage, scratch), Runtime(), report, leases=Leases(storage, TTL_S))


def run_when_free(runner: StageRunner, stage):
    """A lease that could not be given back is waited for until it is seen to be dead."""
    while True:
        try:
            return runner.run(stage)
        except StageHeld:
            time.sleep(0.1)


def digests(runner: StageRunner, stage) -> list[tuple[str, str]]:
    return [(entry.path, entry.sha256) for entry in runner.store.files(runner.store.record(stage.key))]


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same machine", "another machine"])
def test_a_finished_training_whose_put_failed_is_not_trained_again(proxy, bucket, tmp_path, trained, elsewhere):
    stage = training_stage(TRIAL, fingerprint)
    epochs = TRIAL.train.epochs

    def away_after_the_last_epoch(reporting, row):
        if reporting.key == stage.key and row["epoch"] == epochs:
            proxy.always = "503"

    with pytest.raises(StoreUnavailable, match="no answer for 1 s"):
        runner(proxy, bucket, tmp_path / "a", away_after_the_last_epoch).run(stage)
    assert len(trained) == epochs
    proxy.always = None
    rows = []
    again = runner(proxy, bucket, tmp_path / ("b" if elsewhere else "a"), lambda _, row: rows.append(row["epoch"]))
    record = run_when_free(again, stage)
    assert len(trained) == epochs  # no epoch more
    assert rows == [1, 2, 3]
    assert [row["epoch"] for row in record.history] == [1, 2, 3]
    undisturbed = Work(tmp_path / "undisturbed")
    assert digests(again, stage) == undisturbed.digests(stage)
    assert again.store.storage.stat(f"checkpoints/{stage.key}.pt") is None


@pytest.mark.slow
def test_so_is_a_training_whose_last_checkpoint_stayed_on_its_machine(proxy, bucket, tmp_path, trained, monkeypatch):
    monkeypatch.setattr("workers.checkpoint.PATIENCE_S", 0.5)
    stage = training_stage(TRIAL, fingerprint)

    def away_in_the_middle(reporting, row):
        if reporting.key == stage.key and row["epoch"] == 2:
            proxy.always = "503"

    with pytest.raises(StoreUnavailable):
        runner(proxy, bucket, tmp_path / "a", away_in_the_middle).run(stage)
    proxy.always = None
    run_when_free(runner(proxy, bucket, tmp_path / "a"), stage)
    assert len(trained) == TRIAL.train.epochs


@pytest.mark.slow
def test_a_finished_segmenter_whose_put_failed_is_not_trained_again(tmp_path, trained, monkeypatch):
    work = Work(tmp_path)
    model = deeplab.Config(encoder="resnet10t", output_stride=None, level=1, rates=(1,), channels=8)
    config = SegmentationConfig(
        model=Component(name="deeplab", config=model),
        train=SegmentationTraining(epochs=2, batch_size=4, lr=0.01, crop=32),
    )
    labels = variant_stages(TRIAL, fingerprint).labels
    stage = segmentation_stage(config, TRIAL, labels, fingerprint).inputs["segmenter"]
    work.runner.run(labels)
    trained.clear()
    upload = work.store.storage.upload

    def full(name, path):
        raise StoreUnavailable(f"{name}: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(work.store.storage, "upload", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        work.runner.run(stage)
    monkeypatch.setattr(work.store.storage, "upload", upload)
    work.runner.run(stage)
    assert trained == ["SegmentationRun"] * 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_the_stage(tmp_path, monkeypatch, number):
    stage = training_stage(TRIAL, fingerprint)
    work = Work(tmp_path)

    def full(*arguments, **named):
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")

    with monkeypatch.context() as patched:
        patched.setattr("workers.files.tensors.save_file", full)
        with pytest.raises(StoreUnavailable, match=rf"\.safetensors: {os.strerror(number)}"):
            work.runner.run(stage)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "input"])
def test_a_store_that_is_away_before_a_stage_begins_is_told_so(proxy, bucket, tmp_path, trained, when):
    stages = variant_stages(TRIAL, fingerprint)
    if when == "input":
        runner(proxy, bucket, tmp_path / "a").run(stages.cams)
        trained.clear()
    work = runner(proxy, bucket, tmp_path / "b")
    proxy.always = "503"
    with pytest.raises(StoreUnavailable, match="no answer"):
        work.run(stages.labels)
    assert trained == []


@pytest.mark.parametrize("instead", [None, "a file"])
def test_a_folder_that_is_gone_holds_nothing_absent_and_is_not_begun_anew(tmp_path, instead):
    """A network file system that was unmounted, a disk that was pulled out."""
    storage = FolderStorage(tmp_path / "store")
    with pytest.raises(FileNotFoundError):
        storage.read("records/a")  # a store that nothing was written to yet
    storage.write("records/a", b"content")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    if instead:
        (tmp_path / "store").write_text("")
    (tmp_path / "file").write_text("")
    for call in (
        lambda: storage.read("records/a"),
        lambda: storage.stat("records/a"),
        lambda: list(storage.list("records/")),
        lambda: storage.write("records/b", b""),
        lambda: storage.create("records/b", b""),
        lambda: storage.upload("blobs/b", tmp_path / "file"),
        lambda: storage.download("records/a", tmp_path / "copy"),
    ):
        with pytest.raises(StoreUnavailable, match="the folder of the store is gone"):
            call()
    assert (tmp_path / "store").exists() is (instead is not None)
    if instead:
        (tmp_path / "store").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert storage.read("records/a") == b"content"
