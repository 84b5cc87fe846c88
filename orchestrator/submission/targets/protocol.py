"""Protocol of the targets of ``submit``; a module of this folder is one, found by its name (``--to NAME``).

It holds ``Config``, its section of the lab file, with a field ``image: str | None`` (the container image with this
package; ``--image`` wins), and ``open_target(config) -> Target``, which talks to nobody.
All methods raise ``ConfigError`` where the job or the lab's section cannot be used, or nothing answers there.
"""

from __future__ import annotations

from typing import Protocol

from orchestrator.submission.job import Job


class Target(Protocol):
    def render(self, job: Job) -> str:
        """Exactly what ``submit`` would send, to be read by a person; holds no secret's value and asks nobody."""

    def submit(self, job: Job) -> str:
        """Send it; returns the id the other methods take."""

    def status(self, job_id: str) -> str:
        """One line: a word for the state, and what more is known."""

    def follow(self, job_id: str) -> int:
        """Print the job's output until it ends; returns its exit status. Ctrl-C here leaves the job running."""

    def stop(self, job_id: str) -> None:
        """Make the job save its state and end; submitted again it goes on."""
