"""Settings of how a worker runs, as opposed to what it computes: none is part of an identity."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from aream.data.decoded import SharedImages
from aream.engine.loading import Loading
from workers.processes.gpu_memory import CudaMemory, GpuMemory, claim_once, tensor_share
from workers.processes.memory_limits import forget_peak, free_shared_memory, peak_bytes, usable_memory


def no_images() -> None:
    """A function that another process finds by its name."""


@dataclass(frozen=True)
class Runtime:
    gpu: bool = False
    """True if the scheduler gave this worker a (share of a) GPU."""
    gpu_share: float = 1.0
    """Share of the GPU; the rest is left to others."""
    threads: int = 1
    """CPU threads of torch: the cores the scheduler gave. One number for a machine keeps its results equal."""
    loader_workers: int = 0
    """Processes that decode and change images beside the stage's own."""
    images: Callable[[], SharedImages | None] = no_images
    """Images of the stage's data that were decoded before; None: they are decoded by whoever reads them."""
    memory_bytes: int = field(default_factory=usable_memory)
    """Of the machine's memory, this worker's share."""
    checkpoint_s: float = 60.0
    """Seconds of work that are lost at most when a worker dies."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.gpu else "cpu")

    @property
    def loading(self) -> Loading:
        return Loading(self.loader_workers, self.gpu, free_shared_memory)

    def prepare(self) -> None:
        """Set threads and deterministic kernels for this process; to be called before the first CUDA call."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.threads)
        # Some upsampling kernels have no deterministic gradient on CUDA; they warn instead of stopping the run.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        if self.gpu:
            claim_once(self.gpu_share)

    def memory(self) -> GpuMemory | None:
        """Memory of the worker's GPU; None: it computes on the CPU."""
        return CudaMemory() if self.gpu else None

    def forget_peak(self) -> None:
        if (memory := self.memory()) is None:
            forget_peak()
        else:
            memory.forget_peak()

    def memory_left(self) -> int:
        """Bytes of its share of the memory that it computes in, beside the most that this process has held since
        :meth:`forget_peak`."""
        if (memory := self.memory()) is None:
            return self.memory_bytes - peak_bytes()
        total = memory.total()
        return int(tensor_share(self.gpu_share, total) * total) - memory.peak()
