"""Run the benchmarks, each in a process of its own on one thread; the table comes last.

    python -m benchmarks.run [--sweeps | --only NAME ...] [--device cuda]

Of parts, or with ``--sweeps`` of whole sweeps, against plain Ray Tune and on a simulated cluster.
On a GPU only those run whose ``measure`` takes a device. A result is printed and written when it is there: what is done
stays, also where the rest is interrupted.

Exit status 1 where a required ratio is missed or a result differs from its baseline's, 130 where it was interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.measure import Kind, Result


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--sweeps", action="store_true", help="those of whole sweeps in place of those of parts")
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="names of benchmarks, such as par")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _measure(options.inside, options.device)
    names = sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name.startswith("bench_"))
    if options.device != "cpu":
        names = [name for name in names if _takes_device(name)]
    known = {name.removeprefix("bench_"): name for name in names}
    usual = [short for short, name in known.items() if (_kind(name) == "sweep") == options.sweeps]
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"--only: no benchmark {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    results: list[Result] = []
    broken: list[str] = []
    interrupted = False
    try:
        for name, done in _run_all([known[name] for name in options.only or usual], options.device):
            if done.returncode:
                broken.append(name)
                print(f"{done.stderr}\n{name} did not finish", file=sys.stderr)
                continue
            for result in (Result(**row) for row in json.loads(done.stdout.splitlines()[-1])):
                result.save()
                results.append(result)
                print(f"{result.name}: {result.ratio:.2f} ({'ok' if result.passed else 'missed'})", flush=True)
    except KeyboardInterrupt:
        interrupted = True
    _print(results)
    if interrupted:
        print("interrupted; what is in the table is done", file=sys.stderr)
        return 130
    return 0 if not broken and all(result.passed for result in results) else 1


def _run_all(names: Sequence[str], device: str) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Those that count CPU seconds beside each other, one a core; those of wall time alone, after them."""
    alone = [name for name in names if device != "cpu" or _kind(name) != "cpu"]
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        running = {pool.submit(_run, name, device): name for name in names if name not in alone}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
    for name in alone:
        yield name, _run(name, device)


def _kind(name: str) -> Kind:
    kind: Kind = importlib.import_module(f"benchmarks.{name}").KIND
    return kind


def _takes_device(name: str) -> bool:
    return "device" in inspect.signature(importlib.import_module(f"benchmarks.{name}").measure).parameters


def _run(name: str, device: str) -> subprocess.CompletedProcess[str]:
    print(f"{name} ...", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.run", "--inside", name, "--device", device]
    root = Path(benchmarks.__path__[0]).parent
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)


def _measure(name: str, device: str) -> int:
    arguments = [torch.device(device)] if _takes_device(name) else []
    results = importlib.import_module(f"benchmarks.{name}").measure(*arguments)
    print(json.dumps([asdict(result) for result in results]))
    return 0


def _print(results: list[Result]) -> None:
    table = Table(title="baseline / ours, both measured in this run", title_justify="left")
    for column in ("benchmark", "unit", "ours", "baseline", "ratio", "required", "difference", ""):
        table.add_column(column)
    for result in results:
        verdict = "[green]ok[/]" if result.passed else "[red]missed[/]"
        numbers = [f"{value:.3g}" for value in (result.ours, result.baseline)]
        table.add_row(
            result.name,
            result.unit,
            *numbers,
            f"{result.ratio:.2f}",
            f"{result.required:g}",
            result.difference,
            verdict,
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    sys.exit(main())
