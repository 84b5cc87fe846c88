"""Images made ready for a network, in this process or in others beside it, with the same bytes in the same order.

What is made of an image depends on its key alone, never on which process makes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aream.data.dataset import Dataset
from aream.data.decoded import DecodedOnce, ForLoader, Place, SharedImages, packed, unpacked

log = logging.getLogger(__name__)

Key = TypeVar("Key")
Item = TypeVar("Item")
Made = TypeVar("Made")
PREFETCH = 2
"""Batches that each process has ready or in work."""
USED_SHARE = 0.8
"""Of the room for batches of other processes; the rest is left to others."""

WORTH_A_FORK = 0.05
"""Share of the images at hand that are new since processes were forked, at which others take their place."""
TOLD_S = 1.0
"""Seconds in which the system tells of a child's death."""


@dataclass(frozen=True)
class Loading:
    """How images are made ready; none of it changes a byte."""

    workers: int = 0
    """Processes beside this one; 0: this one does it, when a batch is asked for."""
    pinned: bool = False
    """Whether batches lie in memory that a GPU copies from by itself."""
    shared_room: Callable[[], int] | None = None
    """Tells the free bytes of the memory in which processes hand over batches; None: enough."""


HERE = Loading()


class Loader(Generic[Key, Made]):
    """Batches made of keys. Its processes live on from one epoch to the next, until :meth:`close`."""

    def __init__(
        self,
        make: Callable[[Key], Item],
        collate: Callable[[list[Item]], Made],
        dataset: Dataset,
        loading: Loading = HERE,
    ) -> None:
        """``make`` and ``collate`` run in processes forked from this one, and read images of the ``dataset``. A batch
        is made of tensors, in tuples, lists and dataclasses; few large ones, as each takes a file descriptor on its
        way."""
        images = dataset.images if isinstance(dataset, DecodedOnce) else None
        self.work, self.images, self.loading = _Work(make, collate, dataset), images, loading
        self.keys, self.forked_with = _Keys(), 0
        self.loader: DataLoader[Any] | None = None

    def batches(self, keys: Iterable[Sequence[Key]]) -> Iterator[Made]:
        """A batch for each element of ``keys``, in order; these are taken a few batches ahead.

        Raises:
            Exception: what ``make`` raises.
            RuntimeError: naming a DataLoader worker, a process that was killed.
        """
        keys = iter(keys)
        first = next(keys, None)
        if first is None:
            return
        self.keys.begin(itertools.chain([first], keys))
        if self.loader is not None and self._knows_more():
            self.close()
        if self.loader is None:
            self.loader = self._begun(first)
        try:
            made = iter(self.loader)
            while (loaded := _next(made)) is not None:
                self.keys.on_their_way -= 1
                if loaded.error is not None:
                    raise loaded.error
                if self.images is not None and loaded.images is not None:
                    loaded.images.hand_over(self.images)
                yield loaded.batch
        finally:
            if self.keys.on_their_way or self.keys.more:
                self.close()

    def close(self) -> None:
        """Let the processes go; the next batches begin others."""
        self.loader = None

    def _knows_more(self) -> bool:
        """Whether processes that are forked now would decode much less than those that are."""
        if self.images is None or self.loader is None or not self.loader.num_workers:
            return False
        return len(self.images.at_hand()) > (1 + WORTH_A_FORK) * self.forked_with

    def _begun(self, first: Sequence[Key]) -> DataLoader[Any]:
        workers = self._affordable(first) if self.loading.workers else 0
        if self.images is not None and workers:
            self.work.at_hand = self.images.at_hand()
            self.forked_with = len(self.work.at_hand)
        return DataLoader(
            self.work,
            batch_sampler=self.keys,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.loading.pinned,
            prefetch_factor=PREFETCH if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=self.work.begin,
            generator=torch.Generator().manual_seed(0),  # else the loader draws from the training's own state
        )

    def _affordable(self, first: Sequence[Key]) -> int:
        """The number of processes whose batches the shared memory holds.

        What a dataset makes once a process it makes here meanwhile, and those forked from this one have it.
        """
        wanted = self.loading.workers
        size = _bytes(self.work.batch(first[:1])) * len(first)
        if self.images is not None:
            sizes = (pixels.nbytes for pixels in self.images.at_hand().values())
            size += max([self.images.largest, *sizes]) * len(first)
        if self.loading.shared_room is None or not size:
            return wanted
        room = self.loading.shared_room()
        fit = max(0, int(USED_SHARE * room / size) - 1) // PREFETCH
        if fit < wanted:
            need = int(size * (PREFETCH * wanted + 1) / USED_SHARE)
            log.warning(
                "shared memory (/dev/shm) has %d MiB free, and %d processes that load images need %d MiB: %s; a"
                " container gets more with docker run --shm-size=%dm (in Kubernetes an emptyDir of medium Memory at"
                " /dev/shm)",
                room >> 20, wanted, need >> 20, f"{fit} are used" if fit else "none is used", -(-need >> 20) or 1,
            )  # fmt: skip
        return min(fit, wanted)


@dataclass(frozen=True)
class _NewImages:
    """What a loader's process decoded for a batch, and how many images it had."""

    places: list[Place]
    pixels: Tensor
    read: int

    @classmethod
    def of(cls, images: ForLoader) -> _NewImages:
        """Those since the last time."""
        places, pixels = packed(images.new.items())
        images.new, read, images.read = {}, images.read, 0
        return cls(places, torch.from_numpy(pixels), read)

    def hand_over(self, images: SharedImages) -> None:
        images.read += self.read
        images.decoded += len(self.places)
        for image_id, pixels in unpacked(self.places, self.pixels.numpy()):
            images.offer(image_id, pixels)


@dataclass
class _Loaded:
    batch: Any = None
    images: _NewImages | None = None
    error: Exception | None = None

    def pin_memory(self) -> _Loaded:
        return dataclasses.replace(self, batch=_mapped(self.batch, Tensor.pin_memory))


class _Work(torch.utils.data.Dataset[Any]):
    def __init__(self, make: Callable[[Any], Any], collate: Callable[[list[Any]], Any], dataset: Dataset) -> None:
        self.make, self.collate, self.dataset = make, collate, dataset
        self.at_hand: Mapping[str, np.ndarray] = {}
        """Images that processes are forked with."""
        self.here: ForLoader | None = None

    def begin(self, worker: int) -> None:
        """In a process of the loader's."""
        if isinstance(self.dataset, DecodedOnce):
            self.dataset.images = self.here = ForLoader(self.at_hand)

    def batch(self, keys: Sequence[Any]) -> Any:
        return self.collate([self.make(key) for key in keys])

    def __getitems__(self, keys: Sequence[Any]) -> _Loaded:
        """An error goes back as it is: the loader's own wrapping would change what it says."""
        try:
            return _Loaded(self.batch(keys), None if self.here is None else _NewImages.of(self.here))
        except Exception as error:
            return _Loaded(error=error if torch.utils.data.get_worker_info() is None else _sendable(error))


class _Keys:
    """Of the epoch at hand: a loader asks the same object again and again."""

    def begin(self, left: Iterator[Any]) -> None:
        self.left, self.on_their_way, self.more = left, 0, True

    def __iter__(self) -> Iterator[Any]:
        for keys in self.left:
            self.on_their_way += 1
            yield keys
        self.more = False


def _next(made: Iterator[_Loaded]) -> _Loaded | None:
    """
    Raises:
        RuntimeError: as torch's for a worker that was killed, also where one was in the middle of handing over.
    """
    try:
        return next(made, None)
    except (ConnectionError, EOFError) as error:
        time.sleep(TOLD_S)  # torch's handler of the signal raises in here, not in whatever comes next
        raise RuntimeError(f"DataLoader worker was killed while it handed over a batch ({error!r})") from error


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _sendable(error: Exception) -> Exception:
    """With its traceback as a note, which would stay behind."""
    error.add_note(f"in a process that loads images:\n{''.join(traceback.format_exception(error))}")
    with contextlib.suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _parts(batch: Any) -> dict[Any, Any]:
    """Of a dataclass by name, of a list or tuple by number; none of anything else."""
    if dataclasses.is_dataclass(batch):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return dict(enumerate(batch)) if isinstance(batch, list | tuple) else {}


def _bytes(batch: Any) -> int:
    """Of the tensors in it."""
    return batch.nbytes if isinstance(batch, Tensor) else sum(map(_bytes, _parts(batch).values()))


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    changed = {name: _mapped(part, change) for name, part in _parts(batch).items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **changed)
    return type(batch)(changed.values()) if isinstance(batch, list | tuple) else batch
