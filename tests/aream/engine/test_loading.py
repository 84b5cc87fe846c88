"""The same bytes from any number of loader processes; what goes wrong in one is told as if it had happened here."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import time

import psutil
import pytest
import torch
from small_networks import CONFIG, CPU, SEGMENTATION, host, labels_of, segmenter, sharpen
from small_voc import write_voc

from aream.augmentations import deit, deit_on_device
from aream.config import Component
from aream.datasets import shapes, voc2012
from aream.engine.batches import SquareImages, TrainingBatches, raw_images
from aream.engine.loading import Loader, Loading
from aream.errors import DataError
from aream.infer import CamInference, infer_cams
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import predict
from aream.segmentation.train import SegmentationRun
from aream.train import Training
from workers.failures import may_pass

WORKERS = (0, 1, 2)
UNREAD = shapes.build(shapes.Config(image_size=32, train_images=1, val_images=1))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=12, val_images=7))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = write_voc(tmp_path_factory.mktemp("voc") / "VOC2012")
    return voc2012.build(voc2012.Config(root=str(root)))


def processes() -> set[int]:
    """Children of this process that run."""
    return {child.pid for child in psutil.Process().children()}


def ended_since(before: set[int]) -> bool:
    """Whether all that began since then end; torch does not wait for those that take long to."""
    deadline = time.monotonic() + 240
    while processes() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes() - before


def same(found: list[list[torch.Tensor]]) -> bool:
    first, *others = found
    return len(first) > 0 and all(
        len(first) == len(other) and all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        for other in others
    )


@pytest.mark.parametrize("augmentation", [deit, deit_on_device], ids=lambda module: module.__name__.split(".")[-1])
def test_training_batches_of_three_epochs_and_of_one_taken_up_again(files, augmentation):
    found = []
    component = Component(name=augmentation.__name__.split(".")[-1], config=augmentation.Config())
    for workers in WORKERS:
        made = TrainingBatches(
            files, side=48, batch_size=3, augmentation=component, mean=MEAN, std=STD,
            seed=5, loading=Loading(workers),
        )  # fmt: skip
        before = processes()
        batches = [batch for epoch, first in ((0, 0), (1, 0), (2, 0), (1, 2)) for batch in made.epoch(epoch, first)]
        assert [len(batch.ids) for batch in batches] == [3] * 14
        assert len(processes() - before) == workers, "they live on from epoch to epoch"
        made.loader.close()
        found.append([batch.images for batch in batches])
    assert same(found)


@pytest.mark.parametrize("on_device", [False, True], ids=["on the CPU", "on the device"])
def test_weights_and_validation(dataset, on_device):
    found, rows = [], []
    changed = Component(name="deit_on_device", config=deit_on_device.Config()) if on_device else CONFIG.augmentation
    config = dataclasses.replace(CONFIG, augmentation=changed)
    for workers in WORKERS:
        torch.manual_seed(1)
        made = Training(host(), None, dataset, config, 0, device=CPU, loading=Loading(workers))
        before = processes()
        made.run(2, report=rows.append)
        assert ended_since(before)
        found.append([*made.backbone.state_dict().values()])
    assert same(found)
    assert rows[:2] == rows[2:4] == rows[4:]


@pytest.mark.parametrize(
    "config",
    [
        CamInference(scales=(0.5, 1.0), padding="after_flip"),
        CamInference(image_size=32, scales=(1.0, 1.5)),
        CamInference(flip=False),
    ],
    ids=["native", "square", "plain"],
)
def test_cams(files, config):
    network = host()
    sharpen(network)
    found = []
    for workers in WORKERS:
        cams = list(infer_cams(network, files, "val", config, device=CPU, batch_size=3, loading=Loading(workers)))
        assert [image.image_id for image in cams] == list(files.ids("val"))
        found.append([scale.maps for image in cams for scale in image.scales])
    assert same(found)


def test_segmentation_is_trained_and_measured_on_the_same(dataset):
    config = dataclasses.replace(SEGMENTATION, epochs=2, batch_size=4, scale_per="batch")
    evaluation, found = SegmentationEvaluation(scales=(0.75, 1.0)), []
    for workers in WORKERS:
        loading = Loading(workers)
        run = SegmentationRun(segmenter(), dataset, labels_of(dataset), config, 0, device=CPU, loading=loading)
        run.run(report=lambda row: None)
        predictions = predict(run.segmenter, dataset, "val", evaluation, device=CPU, precision="fp32", loading=loading)
        seen = [torch.from_numpy(labels) for _, labels in predictions]
        found.append([*run.segmenter.state_dict().values(), *seen])
    assert same(found)


def test_images_as_they_are(files):
    found = []
    for workers in WORKERS:
        squares = SquareImages(files, 32, (MEAN, STD), Loading(workers))
        batches = [*squares.batches(files.ids("train"), 5), *squares.batches(files.ids("val"), 5, rank=1, ranks=2)]
        raw = [torch.from_numpy(image) for image in raw_images(files, iter(files.ids("train")), Loading(workers))]
        found.append([*(batch.images for batch in batches), *raw])
    assert same(found)


def collected(make, workers: int, keys: int = 8):
    loader = Loader(make, lambda items: torch.tensor(items), UNREAD, Loading(workers))
    return [batch.tolist() for batch in loader.batches([[key] for key in range(keys)])]


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_says_the_same_wherever_it_happened(workers):
    class NoPickle(ValueError):
        def __init__(self, first, second):
            super().__init__(first)

    def make(key):
        if key == 3:
            raise DataError("2007_000003.jpg: does not decode")
        if key == 5:
            raise NoPickle("of another make", 2)
        return key

    with pytest.raises(DataError, match="does not decode") as told:
        collected(make, workers)
    assert str(told.value) == "2007_000003.jpg: does not decode"
    with pytest.raises(Exception, match="of another make") as caught:
        collected(lambda key: make(key + 4), workers)
    assert not may_pass(caught.value), "what code raised by itself it would raise again"


# torch's handler of the signal raises wherever this process is: a file that it was opening stays half-made, and what
# it raises inside a finaliser is only told
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_process_is_told_and_may_be_tried_again():
    def make(key):
        if key == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return key

    assert collected(lambda key: key, 2) == [[key] for key in range(8)]
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        collected(make, 2)
    assert may_pass(caught.value)
    del caught
    gc.collect()  # what it left, while its warnings pass


def test_processes_end_with_whoever_wanted_their_batches():
    before = processes()
    loader = Loader(lambda key: key, lambda items: torch.tensor(items), UNREAD, Loading(2))
    batches = loader.batches([[key] for key in range(50)])
    assert [next(batches).item() for _ in range(3)] == [0, 1, 2]
    assert len(processes() - before) == 2
    batches.close()
    assert ended_since(before)
    assert [batch.item() for batch in loader.batches([[7], [8]])] == [7, 8]
    loader.close()


@pytest.mark.parametrize(("room", "used"), [(10**9, 2), (31_000, 1), (12_000, 0)])
def test_small_shared_memory_is_told_and_takes_fewer_processes(room, used, caplog):
    def make(key):
        return torch.full((1000,), key, dtype=torch.float32)

    before, words = processes(), "shared memory"
    loader = Loader(make, torch.stack, UNREAD, Loading(2, shared_room=lambda: room))
    found = [batch[0, 0].item() for _ in range(2) for batch in loader.batches([[key, key] for key in range(6)])]
    assert found == [*range(6), *range(6)]
    assert len(processes() - before) == used
    told = [record.getMessage() for record in caplog.records if words in record.getMessage()]
    assert len(told) == (used < 2)
    if told:
        assert "--shm-size" in told[0]
        assert ("none is used" if used == 0 else "1 are used") in told[0]
    loader.close()
