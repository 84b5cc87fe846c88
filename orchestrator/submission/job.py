"""One sweep as a job for a cluster: the description that every target of ``submit`` makes its output from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from aream.config import config, plain
from aream.errors import ConfigError
from orchestrator.cluster.resources import Node, amounts, fits, requested
from orchestrator.spec.settings import Resource
from orchestrator.submission.lab import Worker


@config
class Job:
    name: str
    """The sweep's name: letters, digits, . _ - (at most 64)."""
    sweep: str
    """The sweep file's text, as it stands."""
    overrides: tuple[str, ...]
    """``KEY=VALUE`` for ``--set``: the lab's, then the command's, which win."""
    image: str | None
    """Container image with this package: ``--image``, else that of the target's section; None: nodes have it."""
    revision: str
    """Revision of the code that described the job."""
    environment: Mapping[str, str]
    """Variables of every process; no secrets."""
    secrets: tuple[str, ...]
    """Names of variables whose values only the cluster knows."""
    asked: tuple[Resource, ...]
    """Resources of one trial and, if there is one, of one segmentation job, on a node."""
    worker: Worker
    """Resources of a node, and the number of nodes; for targets that request nodes."""
    retries: int
    """Restarts of the whole job after it was lost."""
    runs: str
    """Absolute folder on the node that drives the sweep; it outlives the job."""
    shared: bool
    """True if every node sees ``runs`` at the same path."""

    @property
    def digest(self) -> str:
        """Twelve hex digits that are equal for equal jobs, whichever code describes them."""
        content = json.dumps({**plain(self), "revision": ""}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def folder_digest(self) -> str:
        """Twelve hex digits for the folder that no two running jobs may share."""
        return hashlib.sha256(self.folder.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """The folder of the sweep's state, logs and report."""
        return f"{self.runs}/{self.name}"

    def check_fit(self, custom: Mapping[str, float]) -> None:
        """Refuse what would wait for ever, where each node is a ``worker``.

        Args:
            custom: Ray resources that a worker has beside CPUs and GPUs.

        Raises:
            ConfigError: one trial or segmentation asks for more than a node has.
        """
        offered = {"CPU": float(self.worker.cpus), "GPU": float(self.worker.gpus), **custom}
        for name, asked in zip(("trial", "segmentation"), self.asked, strict=False):
            if not fits(requested(asked), Node("", offered)):
                raise ConfigError(
                    f"resources.{name}: asks for {amounts(requested(asked))}; a node of this lab (`worker`) has"
                    f" {amounts(offered)}"
                )

    def command(self, sweep: str, address: str = "auto") -> list[str]:
        """The command that runs the sweep on a node of a Ray cluster.

        Args:
            sweep: where the file's text was written there.
        """
        settings = [part for override in self.overrides for part in ("--set", override)]
        return ["python", "-m", "orchestrator.sweep", sweep, "--address", address, *settings]
