"""A stage's hardware, as far as its bytes depend on it: part of its identity, decided when a sweep is planned.

A GPU rounds otherwise than a CPU, and on a CPU sums are split over threads: weights of one thread and of two differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from aream.engine.steps import resolved_precision

Part = Literal["device", "threads"]
"""Values of a stage file's ``COMPUTES_ON``: ``device`` where networks run on the GPU that a worker may have,
``threads`` where torch computes on the CPU even then."""


@dataclass(frozen=True)
class Hardware:
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Number of torch's CPU threads, over all processes of a stage."""

    def identity(self, parts: tuple[Part, ...]) -> dict[str, Any]:
        """The part of the hardware that a stage's key holds."""
        kind = {"device": self.device} if "device" in parts else {}
        return kind | ({"threads": self.threads} if self.counts_threads(parts) else {})

    def counts_threads(self, parts: tuple[Part, ...]) -> bool:
        """True if results may depend on the number of threads; where they do not, one is taken."""
        return "threads" in parts or ("device" in parts and self.device == "cpu")

    def of(self, config: Any) -> Any:
        """A copy of a training's configuration with ``auto`` precision decided, and whether it is compiled."""
        decided: dict[str, Any] = {"precision": resolved_precision(config.precision, self.device)}
        if getattr(config, "compile", None) == "auto":
            decided["compile"] = self.device == "cuda"
        return dataclasses.replace(config, **decided)


CPU = Hardware()


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Give torch so many threads while the body runs, whatever the cores of this worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def computed_on(hardware: Hardware, parts: tuple[Part, ...]) -> str:
    """The kind of device that a stage's identity holds, and its threads where they count, for people."""
    counted = ""
    if hardware.counts_threads(parts):
        counted = f", {hardware.threads} thread{'' if hardware.threads == 1 else 's'}"
    return f"{hardware.device if 'device' in parts else 'cpu'}{counted}"


def described(hardware: Hardware, parts: tuple[Part, ...]) -> str:
    """This machine's device for a stage, for people: the kind, a colon and the model."""
    on_gpu = hardware.device == "cuda" and "device" in parts
    return f"{computed_on(hardware, parts)}: {torch.cuda.get_device_name() if on_gpu else _cpu_name()}"


@functools.cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
