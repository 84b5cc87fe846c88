"""Real images on a node that Ray runs: readers after the first decode nothing, and four of them share one copy; an
object for many images is held against an object an image.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
import torch

from aream.data.decoded import DecodedOnce
from aream.datasets import voc2012
from benchmarks.bench_loading import DATA
from benchmarks.measure import Kind, Result

READERS, MEMORY, STORE_BYTES = 4, 1.1, 700 << 20

KIND: Kind = "wall"


def measure() -> list[Result]:
    plain = voc2012.build(voc2012.Config(root=str(DATA)))
    ids = list(plain.ids("train"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
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
        counts, grown_by = [], []
        for reader in readers:
            counts.append(ray.get(reader.read.remote(actor)))
            grown_by.append((_resident() - before) >> 20)
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
            difference=f"{grown / size:.3f}x the set, at most {MEMORY}x; after each reader {grown_by} MiB; "
            f"decoded by each: {decoded}",
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
        from orchestrator.cluster.node_images import NodeStore

        torch.set_num_threads(1)
        self.kind = NodeStore
        self.plain = voc2012.build(voc2012.Config(root=str(DATA)))
        for image_id in self.plain.ids("val"):  # libraries are loaded, and memory of single images is had
            self.plain.image(image_id)

    def read(self, actor: Any) -> tuple[int, int, int]:
        """Images that were decoded and read back, and the bytes of all."""
        self.store = self.kind(lambda: actor)
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
