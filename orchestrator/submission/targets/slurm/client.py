"""Slurm's commands: every call answers or fails in time, with one clear error."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from aream.errors import ConfigError

ANSWER_S = 60.0
"""Longest that one command may take, in seconds."""
GOING_ON = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED", "STAGE_OUT", "SIGNALING",
            "RESIZING", "STOPPED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")  # fmt: skip
"""States of a job that has not ended."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a Slurm command and return what it prints.

    Raises:
        ConfigError: it is not there, fails, or does not answer.
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", timeout=ANSWER_S, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]}: not installed here: submit from a login node of the Slurm cluster") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{command[0]}: no answer from Slurm's controller in {ANSWER_S:g} s") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise ConfigError(f"{command[0]}: {said or f'exit status {done.returncode}'}")
    return done.stdout


class FoundJob:
    """Slurm's description of a job."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields

    @classmethod
    def ask(cls, job_id: str) -> FoundJob | None:
        """Ask the controller, which forgets a job minutes after its end; then accounting, where there is one."""
        if not re.fullmatch(r"[0-9]+", job_id):
            raise ConfigError(f"given {job_id!r}: a Slurm job's id is a number")
        try:
            text = run("scontrol", "show", "job", job_id)
        except ConfigError as error:
            if "Invalid job id" not in str(error):
                raise
            return cls._accounted(job_id)
        words: dict[str, str] = {}
        for name, value in re.findall(r"(?<!\S)(\w+)=(\S*)", text):
            words.setdefault(name, value)  # paths come last, and may look like anything
        output = re.search(r"^ *StdOut=(.*)$", text, re.MULTILINE)
        return cls(words | ({"StdOut": output[1]} if output else {}))

    @classmethod
    def _accounted(cls, job_id: str) -> FoundJob | None:
        names = ("State", "ExitCode", "NodeList", "Elapsed")
        try:
            text = run("sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={job_id}",
                        f"--format={','.join(names)}")  # fmt: skip
        except ConfigError:
            return None
        if not text.strip():
            return None
        fields = dict(zip(names, text.splitlines()[-1].split("|"), strict=True))
        fields |= {"JobState": fields["State"].split()[0], "RunTime": fields["Elapsed"], "Accounted": "yes"}
        return cls(fields)

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def has_ended(self) -> bool:
        return self["JobState"] not in GOING_ON

    @property
    def exit_status(self) -> int:
        """The sweep's own; 130 where submitting it again goes on."""
        if self["JobState"] == "COMPLETED":
            return 0
        status, _, number = (self["ExitCode"] or "1:0").partition(":")
        if self["JobState"] == "FAILED":
            return int(status) or 128 + int(number or 0)
        return 1 if self["JobState"] in ("OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE") else 130

    def described(self) -> str:
        state = self["JobState"].lower()
        if self["JobState"] == "FAILED" and self.exit_status == 130:
            state = "stopped, its state saved"
        parts = [state]
        if not self.has_ended and self["Reason"] not in ("", "None"):
            parts.append(f"waits for {self['Reason']}")
        if self["NodeList"] not in ("", "(null)", "None assigned"):
            parts.append(f"on {self['NodeList']}")
        if self["RunTime"]:
            parts.append(f"{self['RunTime']} since its last start")
        if self["Restarts"] not in ("", "0"):
            parts.append(f"started again {self['Restarts']} times")
        if self.has_ended:
            # Accounting keeps seven bits of it.
            unsure = " (refused) or 130 (stopped)" if self["Accounted"] and self.exit_status == 2 else ""
            parts.append(f"exit status {self.exit_status}{unsure}")
        return ", ".join(parts)
