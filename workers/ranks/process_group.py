"""Ranks as processes of one machine that talk through torch.distributed: gloo, and NCCL for what lies on GPUs.

Before every exchange each rank says how it is: well, asked to stop, or in trouble. So an error on one rank and the wish
to stop are known to all of them at the same point of the training, and nobody waits for who will not come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from aream.engine.steps import is_out_of_memory
from aream.errors import AreamError

log = logging.getLogger(__name__)

WELL, STOP, TROUBLE = 0, 1, 2
PATIENCE = timedelta(minutes=30)
"""Longest that a rank waits for the others; the driver's own limit may be reached before."""


class RankLost(Exception):
    """A process of this training is gone. No ``AreamError``: the stage is tried again, from its checkpoint."""


class Checkpoint(Protocol):
    def load(self) -> dict[str, Any] | None: ...
    def save(self, state: dict[str, Any]) -> None: ...


class ProcessRanks:
    """This process's place among the ranks; see :class:`aream.engine.ranks.Ranks`."""

    def __init__(self, rank: int, size: int, rendezvous: Path, gpu: bool) -> None:
        """Waits for the other ranks.

        Args:
            rendezvous: a path in a folder that all ranks see and nothing else uses.
        """
        self.rank, self.size = rank, size
        self.known: BaseException | None = None
        """An error that all ranks know of."""
        # The ranks are on one machine: nothing listens beyond it.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        store = dist.FileStore(str(rendezvous), size)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        with _lost_where_it_fails():
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)

    def close(self) -> None:
        dist.destroy_process_group()

    def add(self, tensors: Sequence[Tensor]) -> None:
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
        # Before they meet: whatever has no room for them can still say so.
        flats = [torch.cat([tensor.reshape(-1) for tensor in same]) for same in kinds.values()]
        self.meet()
        for flat, same in zip(flats, kinds.values(), strict=True):
            with _lost_where_it_fails():
                dist.all_reduce(flat)
            for tensor, summed in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def collect(self, value: Tensor) -> list[Tensor]:
        here = value.cpu()
        self.meet()
        return self._gathered(here)

    def agree(self, wish: bool) -> bool:
        return self.meet(STOP if wish else WELL) == STOP

    def from_first(self, value: Any) -> Any:
        """The first rank's value, on all of them."""
        self.meet()
        held = [value]
        with _lost_where_it_fails():
            dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except RankLost:
            raise
        except Exception as error:
            if error is not self.known:
                self._tell(error)
            raise

    def meet(self, word: int = WELL) -> int:
        """The worst that any rank says of itself.

        Raises:
            Exception: what another rank raised, as that or as near to it as can be sent.
            RankLost: a rank is gone.
        """
        worst = self._worst(word)
        if worst == TROUBLE:
            self.known = self._first_error(None)
            raise self.known
        return worst

    def _tell(self, error: Exception) -> None:
        try:
            self._worst(TROUBLE)
            self._first_error(error)
        except RankLost as lost:  # its reason may well be this error
            log.warning("%s", lost)
        self.known = error

    def _worst(self, word: int) -> int:
        words = torch.tensor([word])
        with _lost_where_it_fails():
            dist.all_reduce(words, dist.ReduceOp.MAX)
        return int(words)

    def _first_error(self, own: Exception | None) -> Exception:
        told = self._gathered(None if own is None else _portable(own, self.rank))
        first = next(content for content in told if content is not None)
        error: Exception = pickle.loads(first)
        return error

    def _gathered(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        with _lost_where_it_fails():
            dist.all_gather_object(found, value)
        return found


class SharedCheckpoint:
    """The first rank reads and writes the file; what it read is given to all."""

    def __init__(self, ranks: ProcessRanks, file: Checkpoint | None) -> None:
        """``file`` is None on all but the first rank."""
        self.ranks, self.file = ranks, file

    def load(self) -> dict[str, Any] | None:
        state: dict[str, Any] | None = self.ranks.from_first(self.file.load() if self.file else None)
        return state

    def save(self, state: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.save(state)


@contextlib.contextmanager
def _lost_where_it_fails() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, EOFError) as error:  # torch's own, for a peer that is gone among others
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". This is typically")[0]
        raise RankLost(f"another process of this training does not answer: {reason[:300]}") from error


def _portable(error: Exception, rank: int) -> bytes:
    """The error for other processes: itself where it is one of ours, else its text."""
    if isinstance(error, AreamError):
        with contextlib.suppress(Exception):  # one that cannot be sent goes as text
            content = pickle.dumps(error)
            pickle.loads(content)
            return content
    if is_out_of_memory(error):
        return pickle.dumps(torch.OutOfMemoryError(f"process {rank}: {error}"))
    if isinstance(error, OSError) and error.errno is not None:
        return pickle.dumps(OSError(error.errno, f"process {rank}: {error.strerror}", error.filename))
    text = f"process {rank}: {type(error).__name__}: {error}"
    return pickle.dumps(RuntimeError(f"{text}\n{''.join(traceback.format_exception(error))}"))
