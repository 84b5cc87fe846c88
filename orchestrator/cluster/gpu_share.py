"""``gpu: auto``: how many trials share a GPU, from what one of them was measured to need.

A trial's memory is that of its shared warm-up, or of a rehearsal where it needs more (``workers/checks/rehearsal.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.processes.gpu_memory import CONTEXT_BYTES

MARGIN = 0.1
"""Share added to the measured peak, for other images and other fragmentation."""
HEADROOM = 0.04
"""Share of a GPU's memory that the driver and a screen keep."""
MOST = 8
"""Trials that share a GPU at most: beyond, they mostly wait for each other."""
STEP = 10_000
"""Ray counts resources in ten-thousandths."""
GIB = 2**30


@dataclass(frozen=True)
class GpuNode:
    """A node that trials run on."""

    cpus: float
    gpus: float
    gpu_bytes: int
    """Memory of the node's smallest GPU, in bytes."""


@dataclass(frozen=True)
class Share:
    """The number of trials that share a GPU, and why."""

    trials: int
    why: str

    @property
    def gpu(self) -> float:
        return STEP // self.trials / STEP


def decide(peak_bytes: int, nodes: Sequence[GpuNode], cpu: float) -> Share:
    """Decide how many trials share a GPU.

    Args:
        peak_bytes: the most that one trial holds of a GPU's memory for tensors.
        nodes: those with GPUs; at least one.
        cpu: cores of a trial. More trials than the cores of the best node allow would never run beside each other.
    """
    total = min(node.gpu_bytes for node in nodes)
    each = int(peak_bytes * (1 + MARGIN)) + CONTEXT_BYTES
    limits = {
        "memory": int(total * (1 - HEADROOM)) // each,
        f"{cpu:g} CPUs a trial": int(max(node.cpus / node.gpus for node in nodes) / cpu + 1e-9),
        "the most that is worth it": MOST,
    }
    reason = min(limits, key=lambda name: limits[name])
    trials = max(1, limits[reason])
    counted = f"{trials} trial{'s' if trials > 1 else ''} a GPU"
    need = f"{each / GIB:.2f} GiB ({peak_bytes / GIB:.2f} measured, {MARGIN:.0%} and the CUDA context on top)"
    return Share(trials, f"{counted}: each needs {need} of {total / GIB:.1f} GiB; limited by {reason}")
