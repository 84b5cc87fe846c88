"""What planning and driving a sweep cost from 10 GPUs and 1,000 stages to 1,000 GPUs and 100,000: a simulated cluster.

    python -m benchmarks.simulation [--points 10:1000,300:30000]

The real driver runs: spec, plan, Tune's controller, gate, listener, state, recorder, spool, ranking and report. Not
real are Ray's actors (a queue of events on a simulated clock, ``simulated_cluster.py``), the tracking server (away: all
stays in the spool, which a thread empties on a cluster) and the trials, which report 12 epochs and leave records. The
clock runs on by the CPU time that the driver needs, so that slots wait for it as on a real cluster.

``overhead_percent`` is all that the sweep takes longer than its trials on as many slots, given out in no time:
preparing, planning, slots that wait for the driver, ranking, the report. It must stay below 1.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from benchmarks.measure import RESULTS
from benchmarks.sides import ROOT
from workers.processes.provenance import code_revision

POINTS = ((10, 1_000), (100, 10_000), (1_000, 100_000))
ALLOWED_PERCENT = 1.0
STAGES_A_TRIAL, PAIRS = 6, 42
"""A training, its CAMs and the labels of four layer subsets; pairs of alphas."""
SECONDS = {"epoch": 150.0, "infer_cam": 180.0, "pseudo_label": 30.0}
"""Of a stage: 12 epochs make half an hour, a trial 35 minutes."""
SWEEP = """
name: simulated
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 12, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32}}
resources: {{trial: {{cpu: 1, gpu: 1}}}}
limits: {{stalled_minutes: 60}}
axes:
  train.lr: {rates}
  method.alpha_low: [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]
  method.alpha_high: [0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
  inference.layers: [none, all, shallow, [0, 3]]
where: ["method.alpha_low < method.alpha_high"]
seeds: {seeds}
"""


def simulate(gpus: int, stages: int, folder: Path) -> dict[str, Any]:
    """One sweep on one cluster, in this process."""
    from orchestrator.cluster.access import keep_own_ray_private

    keep_own_ray_private()
    import ray

    from benchmarks.simulated_cluster import Clock, Cluster, Durations, SimulatedChannel
    from orchestrator.preflight.prepare import prepare
    from orchestrator.preflight.preview import summarise
    from orchestrator.run.driver import Driver
    from orchestrator.spec.reader import load_spec
    from orchestrator.tracking.backends.mlflow import MlflowBackend
    from orchestrator.tracking.tracker import Tracker

    ray.init("local", include_dashboard=False, num_cpus=1, log_to_driver=False)  # for Tune's object references
    path = folder / "simulated.yaml"
    rates, seeds = _grid(stages)
    path.write_text(SWEEP.format(runs=folder / "runs", rates=rates, seeds=seeds), encoding="utf-8")
    clock = Clock()
    prepared = prepare(load_spec(path))
    prepared_s = clock.work()
    workspace, planner = prepared.workspace, prepared.planner
    summary = summarise(planner, workspace.store())
    summary_s = clock.work() - prepared_s
    tracker = Tracker(MlflowBackend("http://127.0.0.1:9", "simulated"), "simulated", workspace.folder / "tracking")
    clock = Clock()
    cluster = Cluster(gpus, planner, workspace.store(), Durations(**SECONDS), clock)
    driver = Driver(planner, workspace, tracker, lambda say: SimulatedChannel(cluster))
    phases = _on_simulated_time(driver, cluster)
    with (folder / "output").open("w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        outcome = driver.run()
    phases.append(("end", clock.now(), clock.work()))
    assert not outcome.failures
    assert len(outcome.ranking) * len(seeds) == summary.variants
    spent = {name: round(after[2] - before, 2) for (name, _, before), after in itertools.pairwise(phases)}
    trials_s = next(b[1] - a[1] for a, b in itertools.pairwise(phases) if a[0] == "trials")
    whole = prepared_s + clock.now() - clock.began
    return {
        "gpus": gpus,
        "stages": len(summary.stages),
        "trials": summary.trainings,
        "sweep_s": round(whole, 1),
        "shortest_s": round(cluster.shortest(), 1),
        "overhead_percent": round(100 * (whole - cluster.shortest()) / whole, 3),
        "cpu_s": {"preparing": round(prepared_s, 2), **spent, "--plan": round(summary_s, 2)},
        "slots_waited_percent": round(100 * (1 - cluster.shortest() / trials_s), 3),
        "cpu_ms_a_trial": round(1000 * spent["trials"] / summary.trainings, 2),
        "driver_mb": round(psutil.Process().memory_info().rss / 2**20),
    }


def _grid(stages: int) -> tuple[list[float], list[int]]:
    """Learning rates and seeds of a sweep of about as many stages."""
    points = max(1, round(stages / (STAGES_A_TRIAL * PAIRS)))
    seeds = max(number for number in range(1, 11) if points % number == 0)
    return [round(1e-5 * (number + 1), 7) for number in range(points // seeds)], list(range(seeds))


def _on_simulated_time(driver: Any, cluster: Any) -> list[tuple[str, float, float]]:
    """Put the driver on the cluster's clock and actors.

    Returns:
        (Phase, when it began, CPU seconds until then), filled in as it goes.
    """
    from ray.tune.execution import tune_controller

    from benchmarks.simulated_cluster import Actors
    from orchestrator.monitor import state, supervisor
    from orchestrator.run import lease_watch, tune_callback
    from workers.artifacts import holds

    clock = cluster.clock
    simulated = SimpleNamespace(time=clock.now, monotonic=clock.now, strftime=time.strftime)
    for module in (holds, tune_callback, supervisor, state, lease_watch):
        module.time = simulated  # type: ignore[attr-defined]
    driver.state.clock, driver.state.started = clock.now, clock.now()
    driver.supervisor.clock = clock.now
    driver.supervisor.started = driver.supervisor.ticked = driver.supervisor.saved = clock.now()
    Actors.cluster = cluster
    tune_controller.RayActorManager = Actors
    phases = [("planning", clock.now(), clock.work())]
    say = driver.progress.phase

    def phase(text: str) -> None:
        phases.append((text, clock.now(), clock.work()))
        say(text)

    driver.progress.phase = phase
    return phases


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate sweeps of growing size.")
    parser.add_argument("--points", default=",".join(f"{gpus}:{stages}" for gpus, stages in POINTS))
    parser.add_argument("--inside", metavar="GPUS:STAGES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        gpus, stages = map(int, options.inside.split(":"))
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(simulate(gpus, stages, Path(folder))))
        return 0
    rows = [_in_a_process(point) for point in options.points.split(",")]
    content = {"seconds": SECONDS, "commit": code_revision(), "cores": os.cpu_count(), "points": rows}
    if options.points == parser.get_default("points"):
        (RESULTS / "simulation.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        draw(rows, RESULTS / "simulation.png")
    return 0 if all(row["overhead_percent"] < ALLOWED_PERCENT for row in rows) else 1


def _in_a_process(point: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.simulation", "--inside", point]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "180"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), flush=True)
    return row


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    places = [row["stages"] for row in rows]
    axes.plot(places, [row["overhead_percent"] for row in rows], marker="o", label="plan, driver, ranking, report")
    axes.plot(places, [row["slots_waited_percent"] for row in rows], marker="o", label="slots that wait for the driver")
    axes.axhline(ALLOWED_PERCENT, color="grey", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{row['stages']:,}\n{row['gpus']:,} GPUs" for row in rows])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1 * max(ALLOWED_PERCENT, *(row["overhead_percent"] for row in rows)))
    axes.set_xlabel("stages")
    axes.set_ylabel("% of the sweep's time")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
