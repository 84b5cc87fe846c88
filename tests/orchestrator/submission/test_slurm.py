"""The batch script, read by bash and shellcheck; what no job can be made of; what Slurm says of a job, understood."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import labs
import pytest

from aream.errors import ConfigError
from orchestrator.submission.job import Job
from orchestrator.submission.targets import slurm as target
from orchestrator.submission.targets.slurm.client import FoundJob
from orchestrator.submit import main

SHARED = "# ---- From here on"
SLURM = {"venv": "/opt/aream", "partition": "gpu", "time": "1-00:00:00", "secrets_file": "/home/me/secrets.env"}
HOSTILE = """it's $(touch pwned) "lab" `id` #x é"""


def described(folder: Path, *overrides: str, **changes: Any) -> tuple[Job, target.Config]:
    return labs.described(folder, *overrides, target="slurm", **{"shared": True, "slurm": SLURM, **changes})


def rendered(folder: Path, *overrides: str, **changes: Any) -> str:
    job, config = described(folder, *overrides, **changes)
    return target.open_target(config).render(job)


def hostile(folder: Path) -> tuple[Job, str]:
    """A job with names that a shell would act on, and its script."""
    job, config = described(
        folder,
        runs=f"/srv/{HOSTILE}",
        environment={"GREETING": HOSTILE},
        slurm={**SLURM, "venv": f"/opt/{HOSTILE}", "secrets_file": f"/home/{HOSTILE}"},
    )
    job = dataclasses.replace(
        job, overrides=(f"x={HOSTILE}", "$address", "\n'\""), sweep=f"{job.sweep}# $(id) '`\n\tEOF"
    )
    return job, target.open_target(config).render(job)


def in_bash(script: str, then: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run what comes before the part that all jobs share, then some lines of bash."""
    text = f"{script.partition(SHARED)[0]}\n{then}"
    env = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", **environment}
    return subprocess.run(["bash"], input=text.encode(), cwd=folder, env=env, capture_output=True, timeout=240)


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def test_a_job_asks_for_what_the_lab_file_says(tmp_path):
    slurm = {**SLURM, "account": "lab", "qos": "low", "constraint": "a100|h100", "gpu_type": "a100",
             "options": ["--mail-type=END", "--exclusive"]}  # fmt: skip
    found = options(rendered(tmp_path, slurm=slurm))
    assert found == [
        "--job-name=swept", "--output=/srv/runs/swept/slurm/%j.log", "--open-mode=append", "--nodes=1-4",
        "--ntasks-per-node=1", "--cpus-per-task=8", "--mem=32G", "--gpus-per-node=a100:1", "--partition=gpu",
        "--account=lab", "--qos=low", '--constraint="a100|h100"', "--time=1-00:00:00", "--signal=B:USR1@150",
        "--requeue", "--export=NONE", "--mail-type=END", "--exclusive",
    ]  # fmt: skip
    few = options(rendered(tmp_path, worker={"cpus": 2, "least": 0, "most": 1}, slurm={**SLURM, "time": None}))
    assert "--nodes=1" in few
    assert not [option for option in few if option.startswith(("--gpus", "--time"))]


@pytest.mark.parametrize("image", [None, "/srv/aream.sif", "registry.lab/aream:1"])
def test_shellcheck_has_nothing_to_say(tmp_path, image):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    changes = {"slurm": {**SLURM, "venv": None, "image": image}} if image else {}
    file = tmp_path / "job.sh"
    # Of hostile values it remarks that they stay as they are, which is what is wanted.
    for script, literal in ((rendered(tmp_path, **changes), ""), (hostile(tmp_path)[1], ",SC2016,SC2089,SC2090")):
        file.write_text(script)
        # SC2317: it does not see that functions are called by their names.
        done = subprocess.run([shellcheck, f"--exclude=SC2317{literal}", str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_dry_run_prints_the_script(tmp_path, capsys):
    lab = labs.write_lab(tmp_path, shared=True, slurm=SLURM)
    arguments = [str(labs.write_sweep(tmp_path)), "--to", "slurm", "--lab", str(lab), "--dry-run"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert first.startswith("#!/bin/bash\n#SBATCH ")
    assert main(arguments) == 0
    assert capsys.readouterr().out == first


def test_bash_reads_every_word_as_it_was_given(tmp_path):
    job, script = hostile(tmp_path)
    printed = "inside() { printf '%s\\0' \"$@\"; }; read_secrets() { :; }; attempt='a b' address=n1:6379; sweep"
    done = in_bash(script, printed, tmp_path)
    assert done.stderr == b""
    assert done.stdout.decode().split("\0")[:-1] == job.command("a b/sweep.yaml", "n1:6379")
    names = "job_folder secrets_file VIRTUAL_ENV GREETING"
    done = in_bash(script, f"for name in {names}; do printf '%s\\0' \"${{!name}}\"; done", tmp_path)
    assert done.stdout.decode().split("\0")[:-1] == [
        f"/srv/{HOSTILE}/swept/slurm/7", f"/home/{HOSTILE}", f"/opt/{HOSTILE}", HOSTILE,
    ]  # fmt: skip
    assert in_bash(script, "write_sweep", tmp_path).stdout.decode() == f"{job.sweep}\n"
    assert not (tmp_path / "pwned").exists()


def test_a_line_for_sbatch_holds_one_value(tmp_path):
    (output,) = [option for option in options(hostile(tmp_path)[1]) if option.startswith("--output")]
    # As sbatch reads it: within double quotes only a backslash and the quote itself mean something.
    value = re.fullmatch(r'--output="((?:[^"\\]|\\.)*)"', output)
    assert value is not None
    assert value[1].replace('\\"', '"') == f"/srv/{HOSTILE}/swept/slurm/%j.log"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("/srv/back\\slash", "--output: given .* no control characters or backslashes"),
        ("/srv/two\nlines", "--output: given .* no control characters or backslashes"),
        ("/srv/%j", "runs: given '/srv/%j': in a file's name Slurm replaces"),
    ],
)
def test_folders_that_slurm_cannot_name_are_refused(tmp_path, runs, message):
    job, config = described(tmp_path)
    with pytest.raises(ConfigError, match=message):
        target.open_target(config).render(dataclasses.replace(job, runs=runs))


def test_a_container_sees_the_folders_it_needs(tmp_path):
    slurm = {"image": "registry.lab/aream:1", "bind": ["/data/VOC 2012"], "secrets_file": "/s"}
    done = in_bash(
        rendered(tmp_path, slurm=slurm), "inside ray start", tmp_path, PATH=f"{_printing(tmp_path, 'apptainer')}:/bin"
    )
    assert done.stdout.decode().split("\0")[:-1] == [
        "exec", "--nv", "--bind", "/srv/runs", "--bind", "/tmp", "--bind", "/data/VOC 2012",
        "docker://registry.lab/aream:1", "ray", "start",
    ]  # fmt: skip
    plain = rendered(tmp_path, slurm={**slurm, "image": "/srv/a.sif"}, worker={"gpus": 0})
    assert "apptainer exec --bind /srv/runs --bind /tmp --bind '/data/VOC 2012' /srv/a.sif \"$@\"" in plain


def _printing(folder: Path, name: str) -> Path:
    """A folder with a program that prints its arguments."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / name).write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (place / name).chmod(0o755)
    return place


def test_secrets_come_from_a_file_that_only_its_owner_reads(tmp_path):
    file = tmp_path / "it's a secret.env"
    script = rendered(tmp_path, slurm={**SLURM, "secrets_file": str(file)})
    functions = script.partition(SHARED)[2].partition("\n# The address at")[0].partition("\n")[2]

    def read() -> tuple[int, str]:
        lines = f"{functions}\nread_secrets\nprintf %s \"$AWS_ACCESS_KEY_ID\"; env | grep -c '^AWS_.*_KEY'"
        done = in_bash(script, lines, tmp_path, SLURMD_NODENAME="n1")
        return done.returncode, done.stdout.decode()

    assert read()[0] == 2
    assert f"{file} cannot be read on n1" in read()[1]
    file.write_text("AWS_ACCESS_KEY_ID=key\n")
    file.chmod(0o640)
    assert f"others may read {file}" in read()[1]
    file.chmod(0o600)
    assert read()[0] == 2
    assert f"{file} does not set AWS_SECRET_ACCESS_KEY" in read()[1]
    for written, meant in {
        "'a $x'": "a $x", '"it\'s"': "it's", "p$$a&b;c #d": "p$$a&b;c #d", "`id`$(id)": "`id`$(id)", "a=b'": "a=b'",
        "x\r": "x", "a\\b": "a\\b",
    }.items():  # fmt: skip
        file.write_text(f"# of the lab\n\nexport AWS_ACCESS_KEY_ID={written}\nAWS_SECRET_ACCESS_KEY=b", newline="")
        assert read() == (0, f"{meant}2\n")


def test_no_secret_is_in_the_script(tmp_path, monkeypatch):
    for name in labs.LAB["secrets"]:
        monkeypatch.setenv(name, "planted-91c2")
    assert "planted-91c2" not in rendered(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": False}, "shared: given false; .* /srv/runs must be a folder that all of them see"),
        ({"slurm": {}}, "slurm.secrets_file: not given; need a file that sets AWS_ACCESS_KEY_ID, AWS_SECRET"),
        (
            {"worker": {"cpus": 1}, "extra": "resources: {trial: {cpu: 2}}\n"},
            "resources.trial: asks for CPU 2; .* CPU 1",
        ),
        ({"slurm": {**SLURM, "venv": None, "image": "x", "bind": ["/a:b"]}}, "Apptainer binds no folder with a colon"),
    ],
)
def test_jobs_that_cannot_work_are_refused_here(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        rendered(tmp_path, **changes)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"venv": "relative"}, "slurm.venv: need an absolute path, got 'relative'"),
        ({"venv": "/v", "image": "x"}, "slurm.venv: give it or image"),
        ({"time": "tomorrow"}, "slurm.time: need minutes, HH:MM:SS or D-HH:MM:SS, got 'tomorrow'"),
        ({"local": f"/{'x' * 30}"}, "slurm.local: need at most 24 characters"),
        ({"options": ["--output=/x"]}, "slurm.options: need --NAME or --NAME=VALUE, and none of job-name, output"),
        ({"options": ["-p gpu"]}, "slurm.options: need --NAME or --NAME=VALUE"),
        ({"save_s": 0}, "slurm.save_s: need a positive number, got 0"),
        ({"requeues": -1}, "slurm.requeues: need 0 or more, got -1"),
        ({"partitoin": "gpu"}, "did you mean partition"),
    ],
)
def test_a_lab_file_that_is_wrong_says_where(tmp_path, section, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        described(tmp_path, slurm=section)


def test_without_slurm_it_says_where_to_submit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    job, config = described(tmp_path)
    with pytest.raises(ConfigError, match="squeue: not installed here: submit from a login node"):
        target.open_target(config).submit(job)
    with pytest.raises(ConfigError, match="given '7; id': a Slurm job's id is a number"):
        target.open_target(config).status("7; id")


SAID = """JobId=11 JobName=swept
   UserId=me(1000) GroupId=me(1000) MCS_label=N/A
   JobState=%s Reason=%s Dependency=(null)
   Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=%s
   RunTime=00:01:56 TimeLimit=UNLIMITED TimeMin=N/A
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList=%s
   WorkDir=/home/JobState=COMPLETED ExitCode=7:0 x
   StdErr=/srv/a JobState=COMPLETED.log
   StdIn=/dev/null
   StdOut=/srv/a JobState=COMPLETED.log
   Power=
"""


def answering(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0, **said: str) -> None:
    """Let Slurm's commands print what a real one printed; ``status`` is scontrol's."""
    for name, text in said.items():
        (folder / f"{name}.said").write_text(text)
        end = f" >&2; exit {status}" if name == "scontrol" and status else ""
        (folder / name).write_text(f"#!/bin/sh\ncat '{folder}/{name}.said'{end}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


@pytest.mark.parametrize(
    ("state", "reason", "code", "nodes", "described", "status"),
    [
        ("RUNNING", "None", "0:0", "n[1-2]", "running, on n[1-2], 00:01:56 since its last start, started again 2 times",
         None),
        ("PENDING", "BeginTime", "0:0", "(null)", "pending, waits for BeginTime", None),
        ("COMPLETING", "None", "0:0", "n1", "completing, on n1", None),
        ("COMPLETED", "None", "0:0", "n1", "completed, on n1", 0),
        ("FAILED", "NonZeroExitCode", "1:0", "n1", "failed, on n1", 1),
        ("FAILED", "NonZeroExitCode", "2:0", "n1", "failed, on n1", 2),
        ("FAILED", "NonZeroExitCode", "130:0", "n1", "stopped, its state saved, on n1", 130),
        ("FAILED", "RaisedSignal:9", "0:9", "n1", "failed, on n1", 137),
        ("CANCELLED", "None", "0:15", "n1", "cancelled, on n1", 130),
        ("TIMEOUT", "TimeLimit", "0:15", "n1", "timeout, on n1", 130),
        ("NODE_FAIL", "None", "0:0", "n1", "node_fail, on n1", 130),
        ("OUT_OF_MEMORY", "OutOfMemory", "0:125", "n1", "out_of_memory, on n1", 1),
    ],
)  # fmt: skip
def test_what_slurm_says_of_a_job(tmp_path, monkeypatch, state, reason, code, nodes, described, status):
    answering(tmp_path, monkeypatch, scontrol=SAID % (state, reason, code, nodes))
    found = FoundJob.ask("11")
    assert found is not None
    assert found.described().startswith(described)
    assert found.has_ended is (status is not None)
    assert found["StdOut"] == "/srv/a JobState=COMPLETED.log"
    if status is not None:
        assert found.exit_status == status


FORGOTTEN = "slurm_load_jobs error: Invalid job id specified\n"


@pytest.mark.parametrize(
    ("said", "described", "status"),
    [
        ("COMPLETED|0:0|n1|00:02:00\n", "completed, on n1, 00:02:00 since its last start, exit status 0", 0),
        ("FAILED|1:0|n1|00:02:00\n", "failed, on n1, 00:02:00 since its last start, exit status 1", 1),
        ("CANCELLED by 0|0:0|None assigned|00:00:00\n", "cancelled, 00:00:00 since its last start, exit status 130",
         130),
        ("FAILED|2:0|n1|00:02:00\n", "failed, on n1, 00:02:00 since its last start, exit status 2 (refused) or 130"
         " (stopped)", 2),
    ],
)  # fmt: skip
def test_a_job_that_the_controller_has_forgotten_is_asked_of_accounting(tmp_path, monkeypatch, said, described, status):
    answering(tmp_path, monkeypatch, 1, scontrol=FORGOTTEN, sacct=said)
    found = FoundJob.ask("11")
    assert found is not None
    assert (found.described(), found.exit_status, found.has_ended) == (described, status, True)


def test_a_job_that_nobody_knows_and_a_controller_that_is_away(tmp_path, monkeypatch):
    slurm = target.open_target(described(tmp_path)[1])
    answering(tmp_path, monkeypatch, 1, scontrol=FORGOTTEN, sacct="")
    with pytest.raises(ConfigError, match="11: Slurm knows no such job, or has forgotten it"):
        slurm.status("11")
    answering(tmp_path, monkeypatch, 1, scontrol="slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(ConfigError, match="scontrol: slurm_load_jobs error: Unable to contact slurm controller"):
        slurm.status("11")
