"""Real images over some epochs with a network that does nothing: decoded once, against decoded at each reading.

Three paths, each in one process: images as they are, squares as validation and CAMs see them, and training batches with
the default augmentation, which then costs more than decoding. On a node that Ray runs, readers after the first decode
nothing, and four of them share one copy; an object a chunk is held against an object an image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from aream.augmentations import deit
from aream.config import Component
from aream.data.dataset import Dataset
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import voc2012
from aream.engine.batches import SquareImages, TrainingBatches
from benchmarks.measure import Result, median_seconds

DATA = Path(os.environ.get("AREAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "voc12_animals"
SIDE, BATCH, READERS, ROOM = 224, 16, 4, 1 << 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = {"as_they_are": 16, "squares": 4, "augmented": 4}
REQUIRED = {"as_they_are": 6.0, "squares": 1.2, "augmented": 1.1}
"""Least ratio of each path: resizing and augmenting cost the same on both sides, and the first epoch decodes."""
MEMORY, STORE_BYTES = 1.1, 700 << 20

WALL_TIME = False


def measure() -> list[Result]:
    plain = voc2012.build(voc2012.Config(root=str(DATA)))
    ids = list(plain.ids("train"))
    works = {"as_they_are": _as_they_are, "squares": _squares, "augmented": _augmented}
    results = [_against_decoding(name, work, plain, ids) for name, work in works.items()]
    return [*results, *_on_a_node(plain, ids)]


Work = Callable[[Dataset, int], float]


def _as_they_are(dataset: Dataset, epoch: int) -> float:
    return float(sum(dataset.image(image_id).getpixel((0, 0))[0] for image_id in dataset.ids("train")))


def _squares(dataset: Dataset, epoch: int) -> float:
    batches = SquareImages(dataset, SIDE, (MEAN, STD)).batches(dataset.ids("train"), BATCH)
    return float(sum(batch.images[:, :, 0, 0].double().sum() for batch in batches))


def _augmented(dataset: Dataset, epoch: int) -> float:
    made = TrainingBatches(
        dataset, side=SIDE, batch_size=BATCH, augmentation=Component(name="deit", config=deit.Config()), mean=MEAN,
        std=STD, seed=0,
    )  # fmt: skip
    return float(sum(batch.images[:, :, 0, 0].double().sum() for batch in made.epoch(epoch)))


def _against_decoding(name: str, work: Work, plain: Dataset, ids: list[str]) -> Result:
    images = OwnImages(ROOM)
    found: dict[str, list[float]] = {"ours": [], "baseline": []}
    once = DecodedOnce(plain, images)

    def epochs(side: str, dataset: Dataset) -> Callable[[], None]:
        return lambda: found[side].extend(work(dataset, epoch) for epoch in range(EPOCHS[name]))

    spent = median_seconds({"ours": epochs("ours", once), "baseline": epochs("baseline", plain)}, repeats=1)
    rates = {side: round(EPOCHS[name] * len(ids) / seconds) for side, seconds in spent.items()}
    return Result(
        name=f"loading_{name}",
        unit="CPU s",
        ours=spent["ours"],
        baseline=spent["baseline"],
        required=REQUIRED[name],
        input=f"{len(ids)} photos of VOC 2012, {EPOCHS[name]} epochs, {SIDE} px, one process, the first epoch decodes",
        same=found["ours"] == found["baseline"] and images.decoded == len(ids),
        difference=f"{rates['ours']} images/s against {rates['baseline']}; {images.decoded} decoded",
    )


def _on_a_node(plain: Dataset, ids: list[str]) -> list[Result]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from orchestrator.cluster.node_images import images_actor

    ray.init(
        "local", num_cpus=READERS, include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES,
        _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        actor = images_actor(ray.get_runtime_context().get_node_id())
        readers = [ray.remote(num_cpus=1)(_Reader).remote() for _ in range(READERS)]
        ray.get([reader.ready.remote() for reader in readers])
        before = _resident()
        counts = [ray.get(reader.read.remote(actor)) for reader in readers]
        grown = _resident() - before
        single, chunked = ray.get(readers[0].objects.remote())
    finally:
        ray.shutdown()
    size = counts[0][2]
    decoded = [count[0] for count in counts]
    about = f"{len(ids)} photos of VOC 2012, {size >> 20} MiB decoded, {READERS} readers one after the other"
    return [
        Result(
            name="loading_memory",
            unit="MiB",
            ours=round(grown / 2**20, 1),
            baseline=round(READERS * size / 2**20, 1),
            required=round(READERS / MEMORY, 3),
            input=f"{about}; all processes of the node, what they share counted once; baseline: a copy each",
            same=decoded == [len(ids), *[0] * (READERS - 1)],
            difference=f"{grown / size:.3f}x the set, at most {MEMORY}x; decoded by each reader: {decoded}",
        ),
        Result(
            name="loading_chunks",
            unit="s",
            ours=chunked,
            baseline=single,
            required=1.0,
            input=f"{about}; kept and read back: an object of 8 MiB against an object an image",
        ),
    ]


class _Reader:
    def ready(self) -> None:
        torch.set_num_threads(1)
        self.plain = voc2012.build(voc2012.Config(root=str(DATA)))
        self.plain.image(self.plain.ids("train")[0])  # libraries are loaded

    def read(self, actor: Any) -> tuple[int, int, int]:
        """Images that were decoded and read back, and the bytes of all."""
        from orchestrator.cluster.node_images import NodeStore

        self.store = NodeStore(lambda: actor)
        self.images = self.store.of("photos")
        once = DecodedOnce(self.plain, self.images)
        for image_id in once.ids("train"):
            once.image(image_id)
        counts = self.images.decoded, self.images.read
        self.store.done()
        return *counts, sum(pixels.nbytes for pixels in self.images.at_hand().values())

    def objects(self) -> tuple[float, float]:
        """Seconds of keeping a part of them as an object an image, and as one of many, and of reading them back."""
        import numpy as np
        import ray

        some = [pixels for pixels in self.images.at_hand().values()][:120]
        groups = [
            np.concatenate([pixels.reshape(-1) for pixels in some[start : start + 15]]) for start in range(0, 120, 15)
        ]
        spent = []
        for objects in (some, groups):
            began = time.perf_counter()
            kept = [ray.put(pixels) for pixels in objects]
            for reference in kept:
                ray.get(reference)
            spent.append(time.perf_counter() - began)
            del kept
        return spent[0], spent[1]


def _resident() -> int:
    """Bytes of all processes that this one started, shared ones in equal parts."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total
