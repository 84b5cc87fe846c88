"""Decoded images of a node in Ray's object store, read by every worker there without a copy.

An actor a node owns the objects, so that they outlive the trials that decoded them; where it dies, or an object is
lost, images are decoded again. Many images are one object: one each would cost Ray more than reading them back.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ray
from jaxtyping import UInt8
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aream.data.decoded import Place, SharedImages, packed, unpacked

log = logging.getLogger(__name__)

SHARE = 0.6
"""Of a node's object store; the rest is for rows, results and what is on its way."""
CHUNK_BYTES = 4 << 20
ANSWER_S = 20.0
"""Seconds that a worker waits for the actor, or for an object, before it decodes by itself."""
MOST_UNKNOWN = 2 * CHUNK_BYTES
"""Bytes of what a worker decoded that it holds for an actor which has not said that it has them."""
LOOK_S = 0.5
"""Seconds between questions for what others have decoded meanwhile."""
Pixels = UInt8[np.ndarray, "h w 3"]
Chunk = tuple[Any, list[Place]]
"""A reference to an array of pixels, and where images lie in it."""
Seen = tuple[str, int]
"""Which actor, and how many of its chunks."""
News = tuple[Seen, list[Chunk], bool]
"""All that there is now, those chunks of it that a reader has not seen, and whether there is no room for more."""
NOTHING_SEEN: Seen = ("", 0)


@ray.remote(num_cpus=0, max_restarts=-1)
class _NodeImages:
    """Owns chunks of decoded images, those of each dataset by its fingerprint."""

    def __init__(self, room: int) -> None:
        self.name, self.room, self.bytes, self.full = uuid.uuid4().hex, room, 0, False
        self.chunks: dict[str, list[Chunk]] = {}
        self.known: dict[str, set[str]] = {}

    def add(self, data: str, places: list[Place], pixels: UInt8[np.ndarray, " n"], seen: Seen) -> News:
        """Keep images that are new, while there is room."""
        known = self.known.setdefault(data, set())
        new = {image_id: image for image_id, image in unpacked(places, pixels) if image_id not in known}
        own_places, own = (places, pixels) if len(new) == len(places) else packed(new.items())
        self.full = self.full or self.bytes + own.nbytes > self.room
        if new and not self.full:
            self.chunks.setdefault(data, []).append((ray.put(own), own_places))
            self.bytes += own.nbytes
            known.update(new)
        return self.look(data, seen)

    def look(self, data: str, seen: Seen) -> News:
        chunks, (name, count) = self.chunks.get(data, []), seen
        return (self.name, len(chunks)), chunks[count if name == self.name else 0 :], self.full


def images_actor(node: str) -> Any:
    """An actor that keeps a node's images, for as long as its caller lives."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return _NodeImages.options(scheduling_strategy=there).remote(_room(node))  # type: ignore[attr-defined]


def _room(node: str) -> int:
    stores = [n["Resources"].get("object_store_memory", 0) for n in ray.nodes() if n["NodeID"] == node]
    return int(SHARE * sum(stores))


class NodeStore:
    """Images on the node of this worker, whatever their dataset."""

    def __init__(self, actor: Callable[[], Any]) -> None:
        """``actor``: asks for that of a node; its answer may be None."""
        self.actor, self.opened = actor, dict[str, NodeImages | None]()

    def of(self, data: str) -> SharedImages | None:
        if data not in self.opened:
            actor = self.actor()
            self.opened[data] = None if actor is None else NodeImages(actor, data)
        return self.opened[data]

    def done(self) -> None:
        for images in filter(None, self.opened.values()):
            images.flush()
            if images.read or images.decoded:
                log.info("images: %d decoded, %d read from this node's memory", images.decoded, images.read)
            images.read = images.decoded = 0


class NodeImages(SharedImages):
    """Those of one dataset. What it is not told in time it does without."""

    def __init__(self, actor: Any, data: str) -> None:
        super().__init__(_room(ray.get_runtime_context().get_node_id()))
        self.actor, self.data, self.seen, self.full = actor, data, NOTHING_SEEN, False
        self.images: dict[str, Pixels] = {}
        """In the object store, at hand."""
        self.elsewhere: dict[str, Chunk] = {}
        """In the object store, not read yet."""
        self.own: dict[str, Pixels] = {}
        """Decoded here, and not known to be there."""
        self.own_bytes, self.unsent_bytes = 0, 0
        self.answers: list[tuple[concurrent.futures.Future[News], list[str]]] = []
        """Awaited ones, each with the images sent along."""
        self.asked, self.answered = -LOOK_S, True
        self._look(ANSWER_S)

    def get(self, image_id: str) -> Pixels | None:
        found = self.images.get(image_id, self.own.get(image_id))
        if found is not None:
            return found
        if image_id not in self.elsewhere:
            self._look(0)
        if image_id in self.elsewhere:
            self._read(self.elsewhere[image_id])
        return self.images.get(image_id)

    def offer(self, image_id: str, pixels: Pixels) -> None:
        if self.own_bytes > MOST_UNKNOWN:
            self._look(ANSWER_S)
        if self.full or self.own_bytes > MOST_UNKNOWN or image_id in self.images or image_id in self.own:
            return
        self.own[image_id] = pixels
        self.own_bytes += pixels.nbytes
        self.unsent_bytes += pixels.nbytes
        if self.unsent_bytes >= CHUNK_BYTES:
            self.flush()

    def at_hand(self) -> Mapping[str, Pixels]:
        self.flush()
        self._look(ANSWER_S)
        while self.elsewhere:
            self._read(next(iter(self.elsewhere.values())))
        return self.images

    def flush(self) -> None:
        sent = {image_id for _, ids in self.answers for image_id in ids}
        ids = [image_id for image_id in self.own if image_id not in sent]
        self.unsent_bytes = 0
        if ids:
            self._ask("add", ids, *packed((image_id, self.own[image_id]) for image_id in ids))

    def _look(self, wait_s: float) -> None:
        """Take in the answers that have come, or come within so many seconds, where they did so before."""
        if (not self.answers and time.monotonic() - self.asked > LOOK_S) or wait_s:
            self._ask("look", [])
        until = time.monotonic() + (wait_s if self.answered else 0)
        while self.answers:
            answer, ids = self.answers[0]
            try:
                self._take(*answer.result(timeout=max(0.0, until - time.monotonic())))
                self.answered = True
            except concurrent.futures.TimeoutError:
                self.answered = self.answered and not wait_s
                return
            except ray.exceptions.RayError as error:  # it died, and Ray starts it again
                log.warning("decoded images of this node are lost: %s", type(error).__name__)
            self.answers.pop(0)
            self.own_bytes -= sum(self.own.pop(image_id).nbytes for image_id in ids)

    def _ask(self, method: str, ids: list[str], *arguments: Any) -> None:
        self.asked = time.monotonic()
        call = getattr(self.actor, method)
        self.answers.append((call.remote(self.data, *arguments, self.seen).future(), ids))

    def _take(self, seen: Seen, chunks: list[Chunk], full: bool) -> None:
        known = self.seen[1] if self.seen[0] == seen[0] else 0
        for chunk in chunks[max(0, known - (seen[1] - len(chunks))) :]:
            self.elsewhere |= {image_id: chunk for image_id, *_ in chunk[1] if image_id not in self.images}
        self.seen, self.full = seen, full

    def _read(self, chunk: Chunk) -> None:
        reference, places = chunk
        for image_id, *_ in places:
            self.elsewhere.pop(image_id, None)
        try:
            self.images |= dict(unpacked(places, ray.get(reference, timeout=ANSWER_S)))
        except ray.exceptions.RayError as error:
            log.warning("%d decoded images are lost: %s", len(places), type(error).__name__)
