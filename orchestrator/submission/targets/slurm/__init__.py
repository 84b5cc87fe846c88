"""A Slurm cluster, from one of its login nodes: one batch job brings up Ray on its nodes and runs the sweep.

The job saves its state and is queued again when it is pre-empted or its time is up. Every node, and the node that
submits, sees the lab's ``runs`` folder; ``RUNS/SWEEP/slurm/JOB.log`` there is the job's output.
"""

from __future__ import annotations

import codecs
import re
import time
from pathlib import Path

from aream.errors import ConfigError
from orchestrator.submission.following import answers
from orchestrator.submission.job import Job
from orchestrator.submission.targets.slurm.client import FoundJob, run
from orchestrator.submission.targets.slurm.config import Config
from orchestrator.submission.targets.slurm.script import SIGNAL_MARGIN_S, log_folder, render_script


def open_target(settings: Config) -> Slurm:
    return Slurm(settings)


class Slurm:
    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def render(self, job: Job) -> str:
        self._check(job)
        return render_script(job, self.settings)

    def submit(self, job: Job) -> str:
        script = self.render(job)
        folder = Path(log_folder(job))
        for known in run("squeue", "--me", "--noheader", f"--name={job.name}", "--format=%i").split():
            found = FoundJob.ask(known)
            if found and not found.has_ended and Path(found["StdOut"]).parent == folder:
                raise ConfigError(f"{job.name}: is {found['JobState'].lower()} there as {known}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"runs: {folder}: {error.strerror}; this machine must see the folder too") from error
        return run("sbatch", "--parsable", stdin=script).strip().partition(";")[0]

    def status(self, job_id: str) -> str:
        return _known(job_id).described()

    def follow(self, job_id: str) -> int:
        found = _known(job_id)
        log = _Log(Path(found["StdOut"])) if "StdOut" in found.fields else None
        if log is None:
            print(f"{job_id}: Slurm no longer knows where its output is")
        ended = 0
        for found in answers(lambda: _known(job_id)):
            if log:
                log.show_more()
            ended = ended + 1 if found.has_ended else 0
            if ended > 2:  # said again: between two attempts a job may look ended
                break
        print(f"{job_id}: {found.described()}")
        return found.exit_status

    def stop(self, job_id: str) -> None:
        found = _known(job_id)
        if found["JobState"] != "RUNNING":
            run("scancel", job_id)
            return
        run("scancel", "--signal=TERM", "--batch", job_id)
        until = time.monotonic() + self.settings.save_s + SIGNAL_MARGIN_S
        for found in answers(lambda: _known(job_id)):
            if found.has_ended:
                break
            if time.monotonic() > until:
                run("scancel", job_id)
                break

    def _check(self, job: Job) -> None:
        if not job.shared:
            raise ConfigError(
                f"shared: given false; a job that is queued again may start on other nodes: {job.runs} must be a folder"
                " that all of them see, and the lab file must say so"
            )
        if job.secrets and not self.settings.secrets_file:
            raise ConfigError(f"slurm.secrets_file: not given; need a file that sets {', '.join(job.secrets)}")
        if job.image:
            for folder in (job.runs, *self.settings.bind):
                if re.search("[:,]", folder):
                    raise ConfigError(f"slurm: {folder}: Apptainer binds no folder with a colon or comma in its name")
        job.check_fit(self.settings.resources)


def _known(job_id: str) -> FoundJob:
    found = FoundJob.ask(job_id)
    if found is None:
        raise ConfigError(f"{job_id}: Slurm knows no such job, or has forgotten it; its output is RUNS/SWEEP/slurm/"
                          f"{job_id}.log")  # fmt: skip
    return found


class _Log:
    """A growing file."""

    def __init__(self, path: Path) -> None:
        self.path, self.shown = path, 0
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def show_more(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.shown)
                while piece := file.read(1 << 20):
                    self.shown += len(piece)
                    print(self.decoder.decode(piece), end="", flush=True)
        except FileNotFoundError:
            return  # nothing has been written yet
