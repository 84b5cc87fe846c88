"""Speed and memory on a GPU, in at most 8 minutes: steps, loader, CAMs, labels, with the goals beside them.

    python -m benchmarks.gpu [--name NAME] [--minutes 8] [--only PART ...]

Each part is a process of its own, and what it has measured is written at once: results/gpu_NAME.json holds what is
done, also where time ran out or the rest was interrupted. Nothing is downloaded: weights are random and images drawn.

Exit status 1 where a part failed or was left out for want of time, 130 where it was interrupted; a goal that was missed
is said in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_parts import parts
from benchmarks.gpu_workload import SIZES, Place, Row, write_images
from benchmarks.measure import RESULTS
from benchmarks.sides import ROOT
from workers.processes.provenance import code_revision, library_versions
from workers.processes.runtime import Runtime

LEAST_S = 15.0
"""A part that would have less is left out."""
SAID = 2_000
"""Characters of what a part that failed wrote last."""


def main(arguments: Sequence[str] | None = None, results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(description="Measure a GPU.")
    parser.add_argument("--name", help="of the result; the device's own unless given")
    parser.add_argument("--minutes", type=float, default=8.0, help="that all of it may take")
    parser.add_argument("--only", nargs="+", metavar="PART", help="names of parts, such as loader")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--size", default="full", choices=SIZES, help="toy: whether all parts run, on any machine")
    parser.add_argument("--inside", nargs=2, metavar=("PART", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: there is no CUDA device here; --device cpu --size toy runs every part at a toy's size")
    known = parts(SIZES[options.size])
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"--only: no part {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    if options.inside:
        return _inside(options, *options.inside)
    deadline = time.monotonic() + 60 * options.minutes
    about = _about(options)
    run = Run(results / f"gpu_{options.name or _slug(about['device'])}.json", about)
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "images")
            write_images(root, SIZES[options.size])
            for name in options.only or known:
                _measure(name, known[name][1], deadline, root, options, run)
    except KeyboardInterrupt:
        run.print()
        print("interrupted; what is in the table is done", file=sys.stderr)
        return 130
    run.print()
    return 1 if run.broken or run.left_out else 0


class Run:
    """What was measured so far, on disk as it comes."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, about
        self.rows: list[Row] = []
        self.left_out: list[str] = []
        self.broken: dict[str, str] = {}
        """Part -> what it said last."""

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"{row.part}: {row.what}: {row.value:.4g} {row.unit}{_beside(row)}", flush=True)
        self.save()

    def save(self) -> None:
        rows = [dataclasses.asdict(row) for row in self.rows]
        content = {**self.about, "rows": rows, "left_out": self.left_out, "broken": self.broken}
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def print(self) -> None:
        self.save()
        title = f"{self.about['device']}, {self.about['cores']} cores; goals are for an H100 or H200"
        table = Table(title=title, title_justify="left")
        for column in ("part", "", "measured", "unit", "goal", ""):
            table.add_column(column)
        for row in self.rows:
            verdict = "" if row.met is None else "[green]met[/]" if row.met else "[red]missed[/]"
            table.add_row(row.part, row.what, f"{row.value:,.4g}", row.unit, row.goal, verdict)
        Console(width=None if sys.stdout.isatty() else 150).print(table)
        for name in self.left_out:
            print(f"{name}: left out, its time was up", file=sys.stderr)
        for name, said in self.broken.items():
            print(f"{name} failed:\n{said}", file=sys.stderr)


def _measure(name: str, most_s: float, deadline: float, root: Path, options: argparse.Namespace, run: Run) -> None:
    """One part in a process of its own, for as long as it may take; on a CPU, as long as there is time."""
    left = deadline - time.monotonic()
    if left < LEAST_S:
        run.left_out.append(name)
        return
    command = [sys.executable, "-u", "-m", "benchmarks.gpu", "--inside", name, str(root)]
    command += ["--device", options.device, "--size", options.size]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        late = threading.Event()
        timer = threading.Timer(min(most_s, left) if options.device == "cuda" else left, _end, [process, late.set])
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as told:
                for line in told:
                    run.add(Row(**json.loads(line)))
            status = process.wait()
        finally:
            timer.cancel()
            _end(process)
        if late.is_set():
            run.left_out.append(name)
        elif status:
            errors.seek(0)
            run.broken[name] = errors.read()[-SAID:]
        run.save()


def _end(process: subprocess.Popen[str], first: Callable[[], None] = lambda: None) -> None:
    """It and what it started."""
    first()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _inside(options: argparse.Namespace, name: str, root: str) -> int:
    """A line of JSON a figure; what libraries print goes elsewhere."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    size, cores = SIZES[options.size], len(os.sched_getaffinity(0))
    # A trial has its GPU's cores: torch's own threads take one, the others load.
    Runtime(gpu=options.device == "cuda", threads=1).prepare()
    measure, _ = parts(size)[name]
    for row in measure(Place(size, torch.device(options.device), Path(root), cores)):
        print(json.dumps(dataclasses.asdict(row)), file=told, flush=True)
    return 0


def _about(options: argparse.Namespace) -> dict[str, Any]:
    device = "CPU"
    if options.device == "cuda":
        found = torch.cuda.get_device_properties(0)
        device = f"{found.name}, {found.total_memory / 2**30:.0f} GiB"
    return {
        "device": device,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "cuda": torch.version.cuda,
        "size": options.size,
        "versions": library_versions(),
        "commit": code_revision(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", device.partition(",")[0].lower()).strip("_")


def _beside(row: Row) -> str:
    return "" if row.met is None else f" (goal {row.goal}: {'met' if row.met else 'missed'})"


if __name__ == "__main__":
    sys.exit(main())
