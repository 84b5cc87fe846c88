"""The batch script from its first line to its last: what it makes of Ray's end, of nodes that stay away, of signals.

Programs of Slurm's and Ray's stand in for the real ones, which tests/integration/test_submit_slurm.py has.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import labs
import pytest

from orchestrator.submission.targets import slurm as target

pytestmark = pytest.mark.slow

PROGRAMS = {
    # Steps, whose process numbers are kept for scancel, which tells them all.
    "srun": """
while [[ $1 == --* ]]; do shift; done
echo $$ >>"$STAND_INS/steps"
SLURM_NODEID=0 exec "$@"
""",
    "scancel": 'while read -r step; do kill -TERM "$step" 2>/dev/null; done <"$STAND_INS/steps"; exit 0',
    "squeue": 'echo "$STATE"',
    "scontrol": """
case $1 in
    show) echo "NodeName=n1 NodeAddr=127.0.0.1" ;;
    requeue) echo "$2" >>"$STAND_INS/requeued"; kill -TERM "$PPID" ;;
esac
""",
    # A head says where it is after a while; every node runs until it is told to end.
    "ray": """
while (($#)); do
    [[ $1 != --temp-dir ]] || place=$2
    [[ $1 != --head ]] || head=yes
    shift
done
trap 'exit 143' TERM
if [[ -n ${head:-} ]]; then
    echo $$ >"$STAND_INS/head"
    sleep 0.5
    mkdir -p "$place" && echo 127.0.0.1:4444 >"$place/ray_current_cluster"
fi
for ((second = 0; second < 60; second++)); do sleep 1 & wait $!; done
""",
    "python": """
if [[ $* == *orchestrator.sweep* ]]; then
    echo "sweeps at $*"
    trap 'echo is told; exit 130' TERM
    eval "$SWEEP"
    for ((second = 0; second < 60; second++)); do sleep 1 & wait $!; done
elif [[ $* == *nodes* ]]; then
    echo "waits at $3"
    eval "$JOINED"
fi
""",
}


@dataclass(frozen=True)
class Job:
    folder: Path
    """Of the job's attempts."""
    local: Path

    def run(
        self, *, nodes: int = 1, restarts: int = 0, sweep: str = "exit 0", joined: str = "", state: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """One attempt.

        Args:
            sweep: what the sweep does before it waits to be told to end.
            joined: what asking for the nodes does.
            state: that Slurm knows the job in at its end.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "STAND_INS": str(self.folder.parents[3] / "stand_ins"),
            "SWEEP": sweep,
            "JOINED": joined,
            "STATE": state,
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURMD_NODENAME": "n1",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        (Path(environment["STAND_INS"]) / "steps").write_text("")
        script = self.folder.parents[3] / "job.sh"
        return subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=240)

    def was_told(self, attempt: int) -> bool:
        return (self.folder / str(attempt) / "told").exists()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with tempfile.TemporaryDirectory(dir="/tmp") as local:
        yield submitted(tmp_path, Path(local))


def submitted(folder: Path, local: Path, *setup: str) -> Job:
    programs = folder / "venv" / "bin"
    programs.mkdir(parents=True)
    (folder / "stand_ins").mkdir()
    for name, lines in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{lines}\n")
        (programs / name).chmod(0o755)
    slurm = {"venv": str(folder / "venv"), "local": str(local), "setup": list(setup)}
    described, config = labs.described(
        folder, target="slurm", runs=str(folder / "runs"), shared=True, secrets=[], retries=1, slurm=slurm
    )
    (folder / "job.sh").write_text(target.open_target(config).render(described))
    return Job(folder / "runs" / "swept" / "slurm" / "7", local)


@pytest.mark.parametrize(("nodes", "status"), [(1, 0), (1, 2), (2, 1), (2, 3)])
def test_the_sweeps_status_is_the_jobs(job, nodes, status):
    done = job.run(nodes=nodes, sweep=f"exit {status}")
    assert done.returncode == status, done.stdout + done.stderr
    assert not list(job.local.iterdir())
    assert not list(job.folder.rglob("token"))


def test_an_address_that_a_killed_attempt_left_is_not_taken_for_its_own(job):
    left = job.local / "ray-7-0" / "ray" / "ray_current_cluster"
    left.parent.mkdir(parents=True)
    left.write_text("127.0.0.1:1111\n")
    done = job.run(restarts=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "waits at 127.0.0.1:4444" in done.stdout
    assert "--address 127.0.0.1:4444" in done.stdout
    assert "1111" not in done.stdout


RAY_DIES = 'kill -KILL "$(<"$STAND_INS/head")"'
ITS_STEP_ENDS = 'while kill -0 "$(head -n 1 "$STAND_INS/steps")" 2>/dev/null; do sleep 0.1; done'
STEPS_ARE_TOLD = "scancel"
"""As in a pre-emption of which the batch shell hears nothing."""


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        (1, {"sweep": RAY_DIES}),
        (2, {"sweep": RAY_DIES}),
        (1, {"sweep": f"{RAY_DIES}; {ITS_STEP_ENDS}; exit 2"}),
        (2, {"joined": "exit 1"}),
    ],
)
def test_losses_are_counted_up_to_retries(job, nodes, fault):
    """Also those after which the steps that are left are told to end, and a sweep that refuses to run without Ray."""
    first = job.run(nodes=nodes, state="RUNNING", **fault)
    assert first.returncode == 130, first.stdout + first.stderr
    assert "is queued again" in first.stdout
    assert not job.was_told(0)
    second = job.run(nodes=nodes, restarts=1, state="RUNNING", **fault)
    assert second.returncode == 1, second.stdout + second.stderr
    assert "lost 2 times, and retries allows 1" in second.stdout


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_that_is_moved_has_lost_nothing(job, nodes):
    for restarts in range(2):
        done = job.run(nodes=nodes, restarts=restarts, sweep=STEPS_ARE_TOLD, state="RUNNING")
        assert done.returncode == 130, done.stdout + done.stderr
        assert "is queued again" in done.stdout
        assert job.was_told(restarts)


@pytest.mark.parametrize("signals", [["USR1"], ["USR1", "TERM"], ["TERM", "TERM"]])
def test_a_sweep_is_told_once_however_many_signals_come(job, signals):
    """A second one would cut short what it saves after the first."""
    kills = "; ".join(f'kill -{name} "$PPID"; sleep 0.3' for name in signals)
    heard = "until [[ -n ${told:-} ]]; do sleep 0.1; done"
    sweep = f"trap 'echo is told; told=yes' TERM; {kills}; {heard}; sleep 2; exit 130"
    done = job.run(sweep=sweep, state="RUNNING")
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stdout.count("is told") == 1, done.stdout
    assert ("is queued again" in done.stdout) is ("TERM" not in signals)


def test_a_job_that_is_moved_before_it_has_begun_has_lost_nothing(tmp_path):
    with tempfile.TemporaryDirectory(dir="/tmp") as local:
        job = submitted(tmp_path, Path(local), "kill -USR1 $$")
        done = job.run(state="RUNNING")
    assert done.returncode == 130, done.stdout + done.stderr
    assert "is queued again" in done.stdout
    assert "sweeps at" not in done.stdout
    assert job.was_told(0)
