"""The batch script of a job: what was asked for, as shell values, before the part that all jobs share."""

from __future__ import annotations

import json
import re
import shlex
from importlib import resources
from typing import TYPE_CHECKING

from aream.errors import ConfigError
from orchestrator.submission.job import Job

if TYPE_CHECKING:
    from orchestrator.submission.targets.slurm.config import Config

SIGNAL_MARGIN_S = 30
"""Beyond the time to save: Ray ends, and the job is queued again."""
OBJECT_STORE = 0.1
"""Share of a node's memory for Ray's object store: images and checkpoints travel through files, not through Ray."""
LEAST_OBJECT_STORE = 100 << 20
PLAIN = re.compile(r"[\w./:=,@%+\[\]-]+", re.ASCII)
BATCH_VALUE = re.compile(r"[^\x00-\x1f\x7f\\]+")


def render_script(job: Job, settings: Config) -> str:
    """Raises ``ConfigError`` for what no batch script can hold."""
    parts = [
        "#!/bin/bash",
        *_header(job, settings),
        f"# Sweep {job.name} ({job.digest}), described by code {job.revision}.",
        "# Ray runs on all nodes of the job, the sweep on its first. Started again, it goes on where it was.",
        "# shellcheck disable=SC2329  # some functions are called by their names",
        "",
        "told= # why the sweep is to end before its work is done",
        "trap 'told=save' USR1",
        "trap 'told=end' TERM",
        *_values(job, settings),
        "",
        *_environment(job, settings),
        *_commands(job, settings),
        "",
        resources.files(__package__).joinpath("job.sh").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts)


def log_folder(job: Job) -> str:
    return f"{job.folder}/slurm"


def _header(job: Job, settings: Config) -> list[str]:
    worker = job.worker
    least, most = max(worker.least, 1), max(worker.most, 1)
    if "%" in job.runs:
        raise ConfigError(f"runs: given {job.runs!r}: in a file's name Slurm replaces what follows a percent sign")
    options: dict[str, object] = {
        "job-name": job.name,
        "output": f"{log_folder(job)}/%j.log",
        "open-mode": "append",
        "nodes": most if least == most else f"{least}-{most}",
        "ntasks-per-node": 1,
        "cpus-per-task": worker.cpus,
        "mem": f"{worker.memory_gib}G",
        "gpus-per-node": _gpus(worker.gpus, settings.gpu_type),
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.time,
        "signal": f"B:USR1@{settings.save_s + SIGNAL_MARGIN_S}",
        "requeue": "",
        "export": "NONE",
    }
    lines = [_option(f"--{name}", str(value)) for name, value in options.items() if value is not None]
    return [*lines, *(_option(*option.partition("=")[::2]) for option in settings.options)]


def _gpus(count: int, kind: str | None) -> str | None:
    if not count:
        return None
    return f"{kind}:{count}" if kind else str(count)


def _option(name: str, value: str) -> str:
    """One line for sbatch, which takes quotes and backslashes much as a shell does, and nothing else."""
    if not value:
        return f"#SBATCH {name}"
    if not BATCH_VALUE.fullmatch(value):
        raise ConfigError(f"slurm: {name}: given {value!r}: sbatch takes no control characters or backslashes there")
    quoted = value if PLAIN.fullmatch(value) else '"' + value.replace('"', '\\"') + '"'
    return f"#SBATCH {name}={quoted}"


def _values(job: Job, settings: Config) -> list[str]:
    worker = job.worker
    memory = worker.memory_gib << 30
    values = {
        "job_folder": None,
        "local_folder": settings.local,
        "secrets_file": settings.secrets_file or "",
        "secret_names": " ".join(job.secrets),
        "cpus": worker.cpus,
        "gpus": worker.gpus,
        "resources": json.dumps(dict(settings.resources)),
        "object_store_bytes": max(int(OBJECT_STORE * memory), LEAST_OBJECT_STORE),
        "join_s": settings.join_s,
        "save_s": settings.save_s,
        "requeues": settings.requeues,
        "retries": job.retries,
    }
    lines = [f"{name}={shlex.quote(str(value))}" for name, value in values.items() if value is not None]
    return [f"job_folder={shlex.quote(log_folder(job))}/$SLURM_JOB_ID", *lines]


def _environment(job: Job, settings: Config) -> list[str]:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    if not job.image and settings.venv:
        lines.append(f'export VIRTUAL_ENV={shlex.quote(settings.venv)} PATH={shlex.quote(settings.venv)}/bin:"$PATH"')
    return [*lines, *settings.setup]


def _commands(job: Job, settings: Config) -> list[str]:
    """Shell functions for the shared part; ``inside`` replaces its shell, so that a signal reaches the program."""
    command = " ".join(
        {SWEEP: '"$attempt/sweep.yaml"', ADDRESS: '"$address"'}.get(word) or shlex.quote(word)
        for word in job.command(SWEEP, ADDRESS)
    )
    end = f"END_OF_SWEEP_{job.digest}"
    return [
        f'inside() {{ exec {_container(job, settings)}"$@"; }}',
        "sweep() {",
        "    read_secrets",
        f"    inside {command}",
        "}",
        f"write_sweep() {{ cat <<'{end}'; }}",
        job.sweep.removesuffix("\n"),
        end,
    ]


SWEEP, ADDRESS = "\0sweep", "\0address"
"""Stand for what only the job knows; no word of a command holds a NUL."""


def _container(job: Job, settings: Config) -> str:
    if not job.image:
        return ""
    image = job.image if job.image.startswith("/") or "://" in job.image else f"docker://{job.image}"
    folders = (job.runs, settings.local, *settings.bind)
    words = ["apptainer", "exec", *(["--nv"] if job.worker.gpus else [])]
    words += [word for folder in folders for word in ("--bind", folder)]
    return shlex.join([*words, image]) + " "
