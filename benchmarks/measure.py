"""Measuring one thing against its baseline in one run: CPU seconds, peak memory, a ratio and what it must reach."""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from workers.provenance import code_revision, library_versions

RESULTS = Path(__file__).parent / "results"


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
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def cpu_seconds(ours: Callable[[], Any], baseline: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median CPU seconds of each, measured in turns so that both see the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, spent in zip((ours, baseline), times, strict=True):
            started = time.process_time()
            work()
            spent.append(time.process_time() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most bytes that torch holds at once for what ``work`` allocates, results included, by its allocator's events."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held)
