"""Small real sweeps run as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.control import main as control_main
from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
# Which alpha?
name: small
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 40, val_images: 12}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2, initialisation: mimetic}}
method: {{name: aream, refiner: {{name: par, dilations: [1, 2], iterations: 2}}}}
train:
  epochs: 5
  warmup_epochs: 1
  batch_size: 8
  lr: 1e-3
  lr_warmup_epochs: 1
  image_size: 32
  augmentation: {{crop_scale: [0.6, 1.0], rand_augment: null, erasing: 0.0}}
inference: {{image_size: 32}}
axes:
  method.alpha_low: [0.25, 0.35]
  inference.layers: [all, shallow]
segmentation:
  model: {{encoder: resnet10t, output_stride: null, level: 1, rates: [1], channels: 16}}
  train: {{epochs: 2, batch_size: 8, lr: 0.01, crop: 32}}
  evaluate: {{scales: [1.0]}}
"""


def write_small(folder: Path, extra: str = "") -> Path:
    path = folder / "small.yaml"
    path.write_text(SMALL.format(runs=folder / "runs") + extra)
    return path


def changed(sweep: Path, **sections: str) -> Path:
    """The same file with top-level sections replaced or added, as YAML text."""
    lines = sweep.read_text().splitlines()
    for name, text in sections.items():
        lines = [line for line in lines if not line.startswith(f"{name}:")] + [f"{name}: {text}"]
    sweep.write_text("\n".join(lines) + "\n")
    return sweep


ADDRESS: list[str] = []
"""Of a cluster that sweeps run on instead of starting one each."""
CLUSTER_CPUS = 2
BEGUN_S = 180.0
HEARD_S = 5.0
"""The driver looks for orders once a second."""


def command(sweep: Path, *arguments: str) -> list[str]:
    place = [] if "--address" in arguments else [f"--address={address}" for address in ADDRESS]
    return [sys.executable, "-u", "-m", "orchestrator.sweep", str(sweep), *arguments, *place]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}


def finished(sweep: Path, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(sweep, *arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def run(sweep: Path, *arguments: str, expect: int = 0) -> str:
    """All that a person at the terminal sees."""
    done = finished(sweep, *arguments, expect=expect)
    return done.stdout + done.stderr


def planned(sweep: Path) -> dict[str, Any]:
    """What a script reads: warnings go to the other stream."""
    return json.loads(finished(sweep, "--plan", "--json").stdout)


def run_recorded(sweep: Path, *arguments: str, attempts: int = 3) -> str:
    """Until all is in MLflow, which takes a busy machine longer than a driver waits at its end."""
    for _ in range(attempts):
        output = run(sweep, *arguments)
        if "events wait for" not in output:
            return output
    raise AssertionError(output)


def launched(sweep: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(sweep, *arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def started(sweep: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep as a process of its own, gone when the body ends."""
    with launched(sweep) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the output up to a line that contains ``text``.

    Raises:
        AssertionError: there is none.
    """
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"the process ended before it printed {text!r}:\n{''.join(seen)}")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def training_process(folder: Path) -> int:
    """The process that began to train first, by its log; whether it still does is the machine's."""
    (log, *_) = sorted(
        (folder / "runs" / "small" / "logs").glob("train_cam-*.log"), key=lambda path: path.stat().st_mtime
    )
    return int(re.findall(r"running train_cam-\w+ in process (\d+)", log.read_text())[-1])


def at_work(folder: Path, key: str = "train_cam-") -> set[int]:
    """The processes of trainings that go on, of one key or all, by their logs."""
    found = set()
    for log in (folder / "runs" / "small" / "logs").glob(f"{key}*.log"):
        text = log.read_text()
        begun = re.findall(r"running train_cam-\w+ in process (\d+)", text)
        if begun and "finished train_cam" not in text:
            found.add(int(begun[-1]))
    return found


@contextlib.contextmanager
def standing_still(folder: Path, key: str = "train_cam-", *, count: int = 1, after_s: float = 0) -> Iterator[list[int]]:
    """Trainings stand still, from their beginning if need be, so that what happens meets them in the middle, however
    fast the machine is.

    Args:
        count: of trainings that are waited for.
        after_s: how long they stand still after the body, for the driver to hear of an order.
    """
    processes: list[int] = []
    until = time.monotonic() + BEGUN_S
    try:
        while len(processes) < count:
            assert time.monotonic() < until, f"{len(processes)} of {count} trainings of {key} have begun"
            for process in at_work(folder, key) - set(processes):
                os.kill(process, signal.SIGSTOP)
                processes.append(process)
            time.sleep(0.02)
        yield processes
        time.sleep(after_s)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "runs" / "small" / "summary.json").read_text())
    return content


def results(folder: Path) -> tuple[Any, Any]:
    """What must be equal between two runs: the ranking without its times, and the digests of all labels."""
    return ranking(folder), digests(open_store(None, folder / "runs" / "artifacts"))


def ranking(folder: Path) -> list[dict[str, Any]]:
    return [
        {"config": entry["config"], "label_artifacts": entry["label_artifacts"], **_measured(entry)}
        for entry in summary(folder)["ranking"]
    ]


def _measured(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what it cost."""
    kept = {name: value for name, value in entry["metrics"].items() if not name.startswith("cost/")}
    return {"metrics": kept, "seeds": entry["seeds"]}


def digests(store: ArtifactStore) -> dict[str, list[tuple[str, str]]]:
    """Of the files of all pseudo-labels."""
    return {
        key: sorted((entry.path, entry.sha256) for entry in store.files(store.record(key)))
        for key in store.keys()
        if key.startswith("pseudo_label-")
    }


def times_run(*folders: Path) -> dict[str, int]:
    """Stage -> how often a worker began it, by the logs."""
    counts: dict[str, int] = {}
    for folder in folders:
        for log in folder.glob("runs/*/logs/*.log*"):
            for key in re.findall(r"running (\w+-[0-9a-f]+) in process", log.read_text()):
                counts[key] = counts.get(key, 0) + 1
    return counts


def control(sweep: Path, *arguments: str) -> None:
    """In this process: another one would need longer to start than a trial takes."""
    assert control_main([sweep.stem, "--runs", str(sweep.parent / "runs"), *arguments]) == 0


def status(sweep: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.status", str(sweep)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    return done.stdout
