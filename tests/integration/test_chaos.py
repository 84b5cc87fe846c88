"""A sweep on a two-node cluster while something is killed every few seconds: the result of an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import cluster
import psutil
import pytest

import sweeps
from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore

pytestmark = [pytest.mark.slow, pytest.mark.integration]

TRIALS = 12
VICTIMS = {"worker": 2, "raylet": 1, "driver": 1, "store proxy": 4, "MLflow server": 1}
"""How often each is chosen, once each had its turn: what needs longer to come up than the time between two kills is
killed less often."""
PAUSE_S = 5.0, 10.0
"""From one kill to the next, on a machine that runs the sweep undisturbed in ``UNDISTURBED_S``."""
UNDISTURBED_S = 80.0
ROUND_S = 900
KEYS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEY7F3A",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-7f3a",
    "AWS_DEFAULT_REGION": "us-east-1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "180",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        with cluster.lab(tmp_path_factory.mktemp("lab")) as found:
            yield found


def write_sweep(folder: Path, lab: cluster.Lab, prefix: str) -> Path:
    """Two pairs of alphas at three seeds, twice: 12 trainings from 3 warm-ups, 24 label artifacts."""
    folder.mkdir(exist_ok=True)
    sweep = sweeps.write_small(folder)
    text = sweep.read_text().replace("  method.alpha_low:", "  method.alpha_high: [0.45, 0.55]\n  method.alpha_low:")
    sweep.write_text(text)
    return sweeps.changed(
        sweep,
        seeds="[0, 1, 2]",
        store=f"{{uri: 's3://{lab.bucket}/{prefix}', endpoint: '{lab.endpoint}'}}",
        tracking=f"{{uri: '{lab.tracking}', experiment: '{prefix}'}}",
        limits="{retries: 20, stalled_minutes: 2}",
    )


def store_of(folder: Path, lab: cluster.Lab, prefix: str) -> ArtifactStore:
    """Past the proxy."""
    return open_store(f"s3://{lab.bucket}/{prefix}", folder / "check" / "artifacts", lab.direct_endpoint)


def start(sweep: Path, lab: cluster.Lab, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            sweeps.command(sweep, "--address", lab.address),
            cwd=sweeps.ROOT, env=sweeps.environment(), stdout=output, stderr=output,
        )  # fmt: skip


class Undisturbed(NamedTuple):
    ranking: list[dict[str, Any]]
    digests: dict[str, list[tuple[str, str]]]
    slowness: float
    """Of the machine: where nothing comes up between two kills no sweep could ever end, and a fast one would end before
    everything was killed."""


@pytest.fixture(scope="module")
def undisturbed(lab, tmp_path_factory):
    folder, begun = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    process = start(write_sweep(folder, lab, "undisturbed"), lab, folder / "log")
    assert process.wait(timeout=ROUND_S) == 0, (folder / "log").read_text()[-5000:]
    digests = sweeps.digests(store_of(folder, lab, "undisturbed"))
    assert len(digests) == 2 * TRIALS
    return Undisturbed(sweeps.ranking(folder), digests, (time.monotonic() - begun) / UNDISTURBED_S)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_kill_every_few_seconds_changes_nothing(lab, undisturbed, tmp_path, seed, record_property):
    prefix, chance, killed = f"chaos-{seed}", random.Random(seed), []
    turns, seen = chance.sample(list(VICTIMS), len(VICTIMS)), set()
    print(f"seed of the kills: {seed}")
    sweep, log = write_sweep(tmp_path, lab, prefix), tmp_path / "log"
    begun = time.monotonic()
    until = begun + ROUND_S * max(1.0, undisturbed.slowness)
    process = start(sweep, lab, log)
    next_kill = time.monotonic() + chance.uniform(*PAUSE_S) * undisturbed.slowness
    while process.poll() != 0:
        told = f"killed {killed}\n{log.read_text()[-5000:]}"
        assert time.monotonic() < until, told
        # Killed; some trials failed; or the store was away, when it began or later.
        assert process.poll() in (None, -signal.SIGKILL, 1, 2, 130), told
        if process.poll() is not None:
            process = start(sweep, lab, log)
        time.sleep(1.0)
        seen |= lab.started_by(process.pid)
        lab.mend()
        if time.monotonic() >= next_kill and process.poll() is None:
            victim = turns[0] if turns else chance.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
            killed.append(kill(victim, lab, process, chance))
            turns = [turn for turn in turns if turn != killed[-1]]
            next_kill = time.monotonic() + chance.uniform(*PAUSE_S) * undisturbed.slowness
    lab.mend()
    lab.mlflow.wait()
    print(f"killed {killed}")
    record_property("killed", json.dumps(killed))
    record_property("minutes", (time.monotonic() - begun) / 60)
    assert not turns, f"never killed: {turns}"
    store = store_of(tmp_path, lab, prefix)
    assert sweeps.ranking(tmp_path) == undisturbed.ranking
    assert sweeps.digests(store) == undisturbed.digests
    nothing_finished_ran_again(tmp_path)
    nothing_is_left(lab, store, tmp_path, seen)
    for key in store.keys():
        store.verify(key)
    tracking_is_complete(lab, sweep, prefix)
    no_credential_is_kept(tmp_path, lab.folder / "mlflow.db", lab.folder / "mlflow-artifacts")
    no_credential_is_kept(*[store.get(key) for key in store.keys()], store.scratch)


def test_a_node_that_falls_silent_without_dying(lab, undisturbed, tmp_path):
    """No connection is closed and no process ends: only time-outs can tell."""
    sweep = sweeps.changed(write_sweep(tmp_path, lab, "silent"), limits="{retries: 20, stalled_minutes: 0.5}")
    process = start(sweep, lab, tmp_path / "log")
    until = time.monotonic() + ROUND_S
    while (tmp_path / "log").read_text().count("trial running epoch") < 3:
        assert process.poll() is None, (tmp_path / "log").read_text()[-5000:]
        assert time.monotonic() < until
        time.sleep(0.2)
    frozen = lab.freeze_second()
    try:
        assert process.wait(timeout=ROUND_S) == 0, (tmp_path / "log").read_text()[-5000:]
    finally:
        for silent in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                silent.kill()
        lab.mend()
    assert sweeps.ranking(tmp_path) == undisturbed.ranking
    assert sweeps.digests(store_of(tmp_path, lab, "silent")) == undisturbed.digests
    nothing_finished_ran_again(tmp_path)


def kill(victim: str, lab: cluster.Lab, process: subprocess.Popen[bytes], chance: random.Random) -> str:
    if victim == "worker":
        return lab.kill_worker(chance)
    if victim == "raylet":
        return lab.kill_raylet()
    if victim == "driver":
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    else:
        next(service for service in lab.services if service.name == victim).kill()
    return victim


EVENT = re.compile(r'^{"time": "(\S+)".*"message": "(running|finished) (\w+-[0-9a-f]{16})', re.MULTILINE)


def nothing_finished_ran_again(folder: Path) -> None:
    events = sorted(
        event for log in folder.glob("runs/*/logs/*.log*") for event in EVENT.findall(log.read_text(errors="replace"))
    )
    finished: set[str] = set()
    for moment, what, key in events:
        assert not (what == "running" and key in finished), f"{key} ran again at {moment}"
        if what == "finished":
            finished.add(key)
    assert sum(key.startswith("train_cam-") for key in finished) >= 1


def nothing_is_left(lab: cluster.Lab, store: ArtifactStore, folder: Path, seen: set[psutil.Process]) -> None:
    """``seen``: every process that the sweep or its nodes ever had."""
    for prefix in ("leases/", "claims/", "checkpoints/", "probe/"):
        assert not list(store.storage.list(prefix)), prefix
    until = time.monotonic() + 180
    while any("run_" in title or "Implicit" in title for title in lab.titles()):
        assert time.monotonic() < until, "a worker outlived its driver"
        time.sleep(1)
    while orphans := [one for one in seen - lab.started_by() if alive(one)]:
        assert time.monotonic() < until, f"outlived what started them: {orphans}"
        time.sleep(1)
    assert not list(folder.glob("runs/cache/*/staging/*"))


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def no_credential_is_kept(*places: Path) -> None:
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert files
    for file in files:
        content = file.read_bytes()
        assert not any(KEYS[name].encode() in content for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")), file


def tracking_is_complete(lab: cluster.Lab, sweep: Path, experiment: str) -> None:
    """Nothing lost, nothing twice; one more run of the finished sweep sends what the server has missed."""
    import mlflow

    sweeps.run(sweep, "--address", lab.address)
    client = mlflow.MlflowClient(lab.tracking)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000)
    kinds: dict[str, int] = {}
    for run in runs:
        kinds[run.data.tags["aream.kind"]] = kinds.get(run.data.tags["aream.kind"], 0) + 1
    assert kinds == {"sweep": 1, "trial": TRIALS, "variant": 2 * TRIALS, "segmentation": 3}
    for run in runs:
        if run.data.tags["aream.kind"] == "trial":
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/map")]
            assert steps == sorted(set(steps)) == [1, 2, 3, 4, 5]
