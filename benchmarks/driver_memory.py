"""Memory of the driver over 2,000 trivial trials, and of a plain Ray Tune driver over as many that do nothing.

    python -m benchmarks.driver_memory [--trials 2000]

Runs for a quarter of an hour on 2 cores, so it is not among those of ``make bench``. Every trial is a real training of
one epoch with labels and MLflow. Growth is counted from trial 200, when everything is imported, to the last. A run
of fewer trials leaves the kept result as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

import psutil
from rich.progress import track

from benchmarks.measure import Result
from benchmarks.sides import ROOT

TRIALS = 2000
SETTLED = 200
ALLOWED_MB = 30
PLAIN = """
import logging, os, sys
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "1000000"}
import ray
from ray import tune

class Told(tune.Callback):
    def on_trial_complete(self, iteration, trials, trial, **info):
        print("trial done", flush=True)

def nothing(config):
    tune.report({"loss": config["lr"]})

ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
tune.Tuner(
    nothing,
    param_space={"lr": tune.uniform(0, 1)},
    tune_config=tune.TuneConfig(num_samples=int(sys.argv[1]), reuse_actors=True),
    run_config=tune.RunConfig(storage_path=sys.argv[2], verbose=0, callbacks=[Told()]),
).fit()
"""


def main(trials: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        search = f"search={{algorithm: random, trials: {trials}}}"
        sets = [f"runs={folder}/runs", "axes={train.lr: {loguniform: [1.0e-5, 1.0e-2]}}", search]
        command = ["-m", "orchestrator.sweep", str(ROOT / "benchmarks" / "trivial.yaml")]
        ours = _megabytes([*command, *(part for value in sets for part in ("--set", value))], trials, folder)
        plain = _megabytes(["-c", PLAIN, str(trials), f"{folder}/plain"], trials, folder)
    growth, of_tune = (rss[max(rss)] - rss[min(rss)] for rss in (ours, plain))
    result = Result(
        name="driver memory",
        unit=f"MB from trial {min(ours)} to {max(ours)}",
        ours=round(growth, 1),
        baseline=round(of_tune, 1),
        required=0,
        input=f"{trials} trainings of one epoch of 8 images; baseline: plain Ray Tune, trials that do nothing",
        same=growth <= ALLOWED_MB,
        difference=f"at most {ALLOWED_MB} MB allowed; resident at the end {ours[max(ours)]:.0f} MB",
    )
    if trials == TRIALS:
        result.save()
    print(json.dumps({"ours": ours, "plain": plain}))
    print(f"grows by {growth:.1f} MB, plain Tune by {of_tune:.1f} MB")
    return 0 if result.passed else 1


def _megabytes(arguments: list[str], trials: int, folder: str) -> dict[int, float]:
    """Trials done -> resident memory of the process, which works in the folder, from ``SETTLED`` on."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as problems,
        subprocess.Popen(
            [sys.executable, "-u", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=problems,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        resident: dict[int, float] = {}
        lines = (line for line in process.stdout if "trial done" in line)
        for done, _ in enumerate(track(lines, total=trials), start=1):
            if done >= min(SETTLED, trials // 2) and done % (trials // 20) == 0:
                resident[done] = round(psutil.Process(process.pid).memory_info().rss / 2**20, 1)
        if process.wait():
            problems.seek(0)
            raise RuntimeError(problems.read())
    return resident


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=TRIALS)
    sys.exit(main(parser.parse_args().trials))
