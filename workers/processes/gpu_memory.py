"""The memory of the GPU that this process computes on, where several processes share it.

    python -m workers.processes.gpu_memory

prints the bytes of the smallest GPU that this process sees; 0: none. Leaves no context.

``ray.tune.utils.wait_for_gpu`` is no help here: it needs GPUtil, and waits for a GPU that *nobody* uses, which a shared
one never is.
"""

from __future__ import annotations

import functools
import gc
import logging
import time
from collections.abc import Callable
from typing import Protocol

import torch

log = logging.getLogger(__name__)

CONTEXT_BYTES = 768 << 20
"""Bytes of a process beside its tensors: CUDA's context and the libraries' kernels (about 600 MB on current GPUs)."""
PATIENCE_S = 60.0
SETTLED_S = 5.0
"""Memory that is not given back for so long is somebody's who stays."""
LOOK_S = 0.5


class GpuMemory(Protocol):
    """Memory of one GPU, in bytes."""

    def total(self) -> int: ...
    def free(self) -> int:
        """Memory that no process uses."""

    def peak(self) -> int:
        """The most that this process held for tensors, unused parts of its blocks included, since ``forget_peak``."""

    def forget_peak(self) -> None:
        """Blocks without tensors are given back before."""

    def limit(self, share: float) -> None:
        """Let this process have no more than ``share`` of it for tensors: it frees blocks before it fails."""


class CudaMemory:
    """Memory of the current device, in bytes."""

    def total(self) -> int:
        return torch.cuda.mem_get_info()[1]

    def free(self) -> int:
        return torch.cuda.mem_get_info()[0]

    def peak(self) -> int:
        return torch.cuda.max_memory_reserved()

    def forget_peak(self) -> None:
        give_back()
        torch.cuda.reset_peak_memory_stats()

    def limit(self, share: float) -> None:
        torch.cuda.set_per_process_memory_fraction(share)


def give_back() -> None:
    """Let others have the blocks of this process that hold nothing."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def claim(
    memory: GpuMemory,
    share: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Take a share of the GPU: what another process has just left is waited for, what others have is left to them.

    A driver gives a dead process's memory back only after a while. Whatever is short after a minute, or does not move,
    is not waited for: the error of an allocation says more.
    """
    budget = tensor_share(share, memory.total())
    needed = int(0.9 * budget * memory.total())
    began = moved = clock()
    free = memory.free()
    while free < needed and clock() - began < PATIENCE_S and clock() - moved < SETTLED_S:
        sleep(LOOK_S)
        now = memory.free()
        if now != free:
            free, moved = now, clock()
    if free < needed:
        log.warning("of %.1f GiB that are this process's share of the GPU, %.1f are free", needed / 2**30, free / 2**30)
    if share < 1:
        memory.limit(budget)


def tensor_share(share: float, total: int) -> float:
    """The part of a share of the GPU that is left for tensors."""
    return max(share / 2, share - CONTEXT_BYTES / total)


@functools.cache
def claim_once(share: float) -> None:
    """Claim a share once in the process's life: memory that it holds itself is no reason to wait."""
    claim(CudaMemory(), share)


def smallest() -> int:
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return min(sizes, default=0)


if __name__ == "__main__":
    print(smallest())
