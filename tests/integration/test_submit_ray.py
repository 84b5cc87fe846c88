"""``submit --to ray`` as its user meets it: a cluster of two hosts, and a link that is cut."""

from __future__ import annotations

import contextlib
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import two_hosts
from test_chaos import nothing_finished_ran_again
from two_hosts import BUCKET, TwoHosts

import sweeps
from workers.artifacts.opening import open_store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(two_hosts.missing() is not None, reason=str(two_hosts.missing())),
]

SWEEP = sweeps.ROOT / "sweeps" / "thresholds.yaml"
SMALLER = (
    "data={name: shapes, train_images: 40, val_images: 12}",
    "train.epochs=5",
    "train.warmup_epochs=2",
    "train.batch_size=8",
    "inference.scales=[1.0]",
    "segmentation.train.epochs=1",
    "limits={retries: 20, stalled_minutes: 1}",
    "seeds=[0]",
)
TRIALS, LABELS, JOBS = 4, 4, 2
"""Trainings of a seed, label sets of a training, segmenters of a seed."""
ROUND_S = 1200
CUT_S = 60
ID = re.compile(r"^submitted as (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with two_hosts.lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


def command(lab: TwoHosts, *arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "orchestrator.submit", *arguments, "--to", "ray", "--lab", str(lab.lab_file())]


def submit(lab: TwoHosts, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        command(lab, *arguments),
        cwd=sweeps.ROOT, env=lab.environment(), capture_output=True, text=True, timeout=ROUND_S,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


LONGER = "train.epochs=40"
"""For what is done from outside while it runs."""


def settings(name: str, *more: str) -> list[str]:
    """Of a sweep of its own: nothing it needs is in the store."""
    own = (f"name={name}", f"store.uri=s3://{BUCKET}/{name}", *SMALLER, *more)
    return [part for setting in own for part in ("--set", setting)]


def wait_for(what: str, holds: Callable[[], bool], told: Callable[[], str]) -> None:
    until = time.monotonic() + ROUND_S
    while not holds():
        assert time.monotonic() < until, f"{what}: waited in vain\n{told()}"
        time.sleep(0.5)


def logs(host: two_hosts.Host, name: str) -> str:
    """What the workers of one host wrote, in no order."""
    files = (host.runs / name / "logs").glob("*.log*")
    return "\n".join(file.read_text(errors="replace") for file in files)


def trained_on(host: two_hosts.Host, name: str) -> set[str]:
    return set(re.findall(r"running (train_cam-\w+) in process", logs(host, name)))


def nothing_ran_again(lab: TwoHosts, name: str, folder: Path) -> None:
    """On either host, what had been finished on either."""
    (folder / "runs").mkdir()
    for host in (lab.head, lab.worker):
        (folder / "runs" / host.name).symlink_to(host.runs / name)
    nothing_finished_ran_again(folder)


def tracking_is_complete(lab: TwoHosts, experiment: str, seeds: int) -> None:
    import mlflow

    client = mlflow.MlflowClient(lab.tracking)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000)
    kinds = [run.data.tags["aream.kind"] for run in runs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "sweep": 1, "trial": seeds * TRIALS, "variant": LABELS * seeds * TRIALS, "segmentation": JOBS * seeds
    }  # fmt: skip
    for run in runs:
        if run.data.tags["aream.kind"] == "trial":
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/map")]
            assert steps == sorted(set(steps)) == [1, 2, 3, 4, 5]


def stored(lab: TwoHosts, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, str]]]:
    for variable, value in lab.keys.items():
        monkeypatch.setenv(variable, value)
    return sweeps.digests(open_store(f"s3://{BUCKET}/{name}", folder / "check" / "artifacts", lab.endpoint))


@pytest.fixture(scope="module")
def undisturbed(lab):
    """The output of a sweep that nobody disturbed."""
    return submit(lab, str(SWEEP), *settings("calm"))


def test_both_hosts_work_and_everything_arrives(lab, undisturbed, tmp_path, monkeypatch):
    assert "ranked by pseudo/miou" in undisturbed
    assert ": succeeded" in undisturbed
    on_head, on_worker = trained_on(lab.head, "calm"), trained_on(lab.worker, "calm")
    assert on_head
    assert on_worker
    assert len(on_head | on_worker) == TRIALS
    assert len(stored(lab, "calm", tmp_path, monkeypatch)) == LABELS * TRIALS
    tracking_is_complete(lab, "calm", 1)


def test_the_same_job_again_is_a_new_attempt_that_finds_everything_done(lab, undisturbed):
    (first,) = ID.findall(undisturbed)
    again = submit(lab, str(SWEEP), *settings("calm"))
    (second,) = ID.findall(again)
    assert first.endswith("-1")
    assert second == f"{first[:-1]}2"
    assert "running epoch" not in again
    assert submit(lab, "--status", second).startswith(f"{second}: succeeded, ")


def test_no_credential_is_kept_anywhere(lab, undisturbed):
    secrets = [lab.token.read_text(), lab.keys["AWS_SECRET_ACCESS_KEY"]]
    places = [lab.head.folder, lab.worker.folder, lab.folder / "mlflow-artifacts", Path(f"/tmp/{lab.head.name}"),
              Path(f"/tmp/{lab.worker.name}"), lab.database]  # fmt: skip
    files = [file for place in places for file in place.rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) > 20
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), file
    assert not any(secret in undisturbed for secret in secrets)


def test_a_job_that_is_left_alone_can_be_looked_at_stopped_and_sent_again(lab, tmp_path):
    output = submit(lab, str(SWEEP), *settings("left", LONGER), "--detach")
    (job,) = ID.findall(output)
    assert f"--stop {job} --to ray" in output
    refused = submit(lab, str(SWEEP), *settings("left", LONGER, "seeds=[1]"), expect=2)
    assert f"there as {job}" in refused
    follower = subprocess.Popen(
        command(lab, "--follow", job), cwd=sweeps.ROOT, env=lab.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    sweeps.read_until(follower, "trial running epoch 3")
    follower.send_signal(signal.SIGINT)
    assert f"{job} goes on" in follower.communicate(timeout=240)[0]
    assert follower.returncode == 130
    assert submit(lab, "--status", job).startswith(f"{job}: running, ")
    assert submit(lab, "--stop", job).startswith(f"{job}: stopped, ")
    assert "interrupted; run the same command again to go on" in submit(lab, "--follow", job, expect=130)
    finished = submit(lab, str(SWEEP), *settings("left", LONGER))
    assert "ranked by pseudo/miou" in finished
    nothing_ran_again(lab, "left", tmp_path)


def test_the_jobs_exit_status_is_ours(lab):
    output = submit(lab, str(SWEEP), *settings("refused", "resources.trial.gpu=1"), expect=2)
    assert "resources.trial.gpu: given 1; the largest node of this cluster has 0" in output


def test_a_wrong_token_is_one_line(lab, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    for environment in ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, {"RAY_AUTH_MODE": "disabled"}):
        done = subprocess.run(
            command(lab, "--status", "x"), cwd=sweeps.ROOT, env=lab.environment(**environment),
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith(f"ray.address: {lab.jobs} asks for a token, and did not take")
        assert done.stderr.count("\n") == 1


def test_a_cut_link_and_a_dead_host_cost_no_finished_work(lab, undisturbed, tmp_path, monkeypatch):
    """Of trainings so long that the link is cut within one, whatever the machine."""
    taken = re.findall(r"finished train_cam-\w+ in ([\d.]+) s", logs(lab.head, "calm") + logs(lab.worker, "calm"))
    images = max(120, round(40 * CUT_S / 3 / statistics.fmean(map(float, taken))))
    sizes = (f"data={{name: shapes, train_images: {images}, val_images: 12}}", "seeds=[0, 1]")
    (job,) = ID.findall(submit(lab, str(SWEEP), *settings("cut", *sizes), "--detach"))

    def told() -> str:
        return submit(lab, "--status", job) + logs(lab.head, "cut")[-3000:] + logs(lab.worker, "cut")[-3000:]

    def works_again() -> bool:
        lab.mend_worker()
        return trained_on(lab.worker, "cut") > before

    wait_for("a trial on the second host", lambda: bool(trained_on(lab.worker, "cut")), told)
    lab.worker.cut()
    time.sleep(CUT_S)
    lab.worker.heal()
    assert submit(lab, "--status", job).startswith(f"{job}: running"), "the sweep was to last longer than the cut"
    before = trained_on(lab.worker, "cut")
    wait_for("another trial on the second host", works_again, told)
    lab.worker.kill()
    output = submit(lab, "--follow", job)
    lab.mend_worker()
    assert "ranked by pseudo/miou" in output
    assert len(stored(lab, "cut", tmp_path, monkeypatch)) == 2 * LABELS * TRIALS
    nothing_ran_again(lab, "cut", tmp_path)
    tracking_is_complete(lab, "cut", 2)
