"""Measuring one thing against its baseline in one run: CPU seconds, peak memory, a ratio and what it must reach."""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from workers.processes.provenance import code_revision, library_versions

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
Kind = Literal["cpu", "wall", "sweep"]
"""What a benchmark counts: CPU seconds, so that others may run beside it; wall time, with nothing beside it; or that of
whole sweeps, minutes each."""


@dataclass
class Result:
    name: str
    unit: str
    ours: float
    baseline: float
    required: float
    """Least ratio baseline / ours."""
    input: str
    same: bool = True
    """Whether both computed the same within the tolerance the benchmark names."""
    difference: str = ""
    ratio: float = 0.0
    versions: dict[str, str] = field(default_factory=library_versions)
    commit: str = field(default_factory=code_revision)
    machine: str = field(default_factory=lambda: f"{platform.machine()}, {psutil.cpu_count()} cores")
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        self.ratio = round(self.baseline / self.ours, 2) if self.ours else float("inf")

    @property
    def passed(self) -> bool:
        return self.same and self.ratio >= self.required

    def save(self) -> None:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name.replace(' ', '_')}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def cpu_seconds(ours: Callable[[], Any], baseline: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median CPU seconds of each, measured in turns so that both see the same machine."""
    spent = median_seconds({"ours": ours, "baseline": baseline}, repeats)
    return spent["ours"], spent["baseline"]


def median_seconds(
    works: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device | None = None
) -> dict[str, float]:
    """Median seconds of each, in turns: of this process's CPU, or of wall time until a CUDA ``device`` is done."""
    on_gpu = device is not None and device.type == "cuda"
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            if on_gpu:
                torch.cuda.synchronize(device)
            started = time.perf_counter() if on_gpu else time.process_time()
            work()
            if on_gpu:
                torch.cuda.synchronize(device)
            times[name].append((time.perf_counter() if on_gpu else time.process_time()) - started)
    return {name: statistics.median(spent) for name, spent in times.items()}


def peak_bytes(work: Callable[[], Any], device: torch.device | None = None) -> int:
    """Most bytes that torch holds at once for what ``work`` allocates, results included, by its allocator's events."""
    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held)
