"""Real images on a node that Ray runs: readers after the first decode nothing, and four of them share one copy; an
object for many images is held against an object an image.

What is held beside the set grows far less than the set: so it is read alone, and then with copies of its images under
other names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from PIL import Image

from aream.data.decoded import DecodedOnce
from aream.datasets import voc2012
from benchmarks.bench_loading import DATA
from benchmarks.measure import Kind, Result

READERS, MEMORY, STORE_BYTES = 4, 1.1, 2 << 30
COPIES = 3
CHUNKED, EACH = 120, 8
Counts = tuple[int, int]
"""Images that a reader has decoded, and bytes of all that it has at hand."""

KIND: Kind = "wall"


def measure() -> list[Result]:
    plain = voc2012.build(voc2012.Config(root=str(DATA)))
    ids = list(plain.ids("train"))
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
    from orchestrator.cluster import connection
    from orchestrator.cluster.node_images import images_actor

    connection.start(num_cpus=READERS, log_to_driver=False, object_store_memory=STORE_BYTES)
    import ray

    try:
        actor = images_actor(ray.get_runtime_context().get_node_id())
        readers = [ray.remote(num_cpus=1)(_Reader).remote() for _ in range(READERS)]
        ray.get([reader.ready.remote() for reader in readers])
        before = _resident()
        counts, grown = {}, {}
        for copies in (0, COPIES):
            counts[copies] = [ray.get(reader.read.remote(actor, copies)) for reader in readers]
            grown[copies] = _resident() - before
        single, chunked = ray.get(readers[0].objects.remote())
    finally:
        ray.shutdown()
    return [
        _memory("loading_memory", ids, counts[0], grown[0], required=0),
        _memory("loading_memory_copies", ids * (1 + COPIES), counts[COPIES], grown[COPIES], READERS / MEMORY),
        Result(
            name="loading_chunks",
            unit="s",
            ours=chunked,
            baseline=single,
            required=1.0,
            input=f"{CHUNKED} photos of VOC 2012 kept and read back: an object of many against an object an image",
        ),
    ]


def _memory(name: str, ids: Sequence[str], counts: Sequence[Counts], grown: int, required: float) -> Result:
    decoded, size = [count[0] for count in counts], counts[0][1]
    limit = f"at most {MEMORY}x" if required else "for context"
    return Result(
        name=name,
        unit="MiB",
        ours=round(grown / 2**20, 1),
        baseline=round(READERS * size / 2**20, 1),
        required=round(required, 3),
        input=f"{len(ids)} photos of VOC 2012 ({len(set(ids))} different ones), {size >> 20} MiB decoded, {READERS} "
        "readers one after the other; all processes of the node, what they share counted once; baseline: a copy each",
        same=decoded == [len(ids), *[0] * (READERS - 1)],
        difference=f"{grown / size:.3f}x the set, {limit}: {(grown - size) >> 20} MiB more; decoded by each: {decoded}",
    )


class _Copies:
    """The photos, and again under other names."""

    def __init__(self, copies: int) -> None:
        self.plain, self.copies = voc2012.build(voc2012.Config(root=str(DATA))), copies

    def ids(self) -> list[str]:
        return [f"{image_id}/{copy}" for copy in range(1 + self.copies) for image_id in self.plain.ids("train")]

    def image(self, image_id: str) -> Image.Image:
        return self.plain.image(image_id.partition("/")[0])


class _Reader:
    def ready(self) -> None:
        from orchestrator.cluster.node_images import NodeStore

        torch.set_num_threads(1)
        self.kind, self.decoded = NodeStore, 0
        plain = voc2012.build(voc2012.Config(root=str(DATA)))
        for image_id in plain.ids("val"):  # libraries are loaded, and memory of single images is had
            plain.image(image_id)

    def read(self, actor: Any, copies: int) -> Counts:
        photos = _Copies(copies)
        self.store = self.kind(lambda: actor)
        images = self.store.of("photos")
        assert images is not None
        self.images = images
        once = DecodedOnce(photos, self.images)  # type: ignore[arg-type]
        for image_id in photos.ids():
            once.image(image_id)
        self.decoded += self.images.decoded
        self.store.done()
        return self.decoded, sum(pixels.nbytes for pixels in self.images.at_hand().values())

    def objects(self) -> tuple[float, float]:
        """Seconds of keeping some of them as an object an image, and as one of many, and of reading them back."""
        import numpy as np
        import ray

        some = [pixels for pixels in self.images.at_hand().values()][:CHUNKED]
        groups = [
            np.concatenate([pixels.reshape(-1) for pixels in some[start : start + EACH]])
            for start in range(0, CHUNKED, EACH)
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
