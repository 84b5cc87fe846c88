"""A Kubernetes cluster with KubeRay: the sweep as one RayJob, which brings its own Ray cluster and takes it away.

The sweep file travels as an annotation that the head node sees as a file, so that nothing else is left behind. Secrets
are named, never held: their values are in a Secret of the namespace. Needs ``kubectl`` and a context it can use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from aream.config import config
from aream.errors import ConfigError
from orchestrator.job import Job
from orchestrator.submission._kubectl import Kubectl
from orchestrator.submission._rayjob import FOLDER_LABEL, manifest, name_prefix
from orchestrator.submission._readable import readable


@config
class Mount:
    claim: str
    """PersistentVolumeClaim with data or weights; mounted read-only on all nodes."""
    path: str
    """Absolute folder."""


@config
class Redis:
    """Where the head node's state outlives its pod (gcs fault tolerance)."""

    address: str
    """HOST:PORT."""
    secret: str | None = None
    """Secret that holds the password; None: it has none."""
    key: str = "password"
    """Of the secret."""


@config
class Toleration:
    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


@config
class Config:
    image: str | None = None
    """Container image with this package, bash and wget; ``--image`` wins. One of the two is needed."""
    namespace: str = "default"
    context: str | None = None
    """Of kubectl; None: the current one."""
    secret: str | None = None
    """Secret whose keys are the variables that the lab's ``secrets`` names."""
    image_pull_secret: str | None = None
    runs_claim: str | None = None
    """PersistentVolumeClaim for ``runs``; None: state, logs and report go with the pods, the store and MLflow stay."""
    mounts: tuple[Mount, ...] = ()
    head_cpus: int = 2
    head_memory_gib: int = 8
    """The head node drives the sweep and runs no trials."""
    shared_memory_gib: int = 2
    """Of each node, for Ray's object store and the loaders; a part of its memory."""
    gpu_resource: str = "nvidia.com/gpu"
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Ray resources of a worker beside CPUs and GPUs, for sweeps that ask for some by name."""
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of workers."""
    tolerations: tuple[Toleration, ...] = ()
    """Of workers."""
    user: int = 10001
    """Number of the user and group of all processes, not root; 10001 is that of docker/Dockerfile."""
    redis: Redis | None = None
    """None: a head node that dies takes the attempt with it, and the job is tried again."""
    queue: str | None = None
    """Kueue's LocalQueue. It admits a job as a whole: ``worker.least`` and ``worker.most`` must be equal."""
    deny_ingress: bool = False
    """Let only pods of the job itself connect to it; KubeRay 1.7 with its feature gate RayClusterNetworkPolicy."""
    ttl_s: int = 600
    """Seconds that the cluster stays after the job's end, for a look at its logs."""
    stop_s: int = 120
    """Seconds to save its state when a job is stopped."""

    def __post_init__(self) -> None:
        for name in ("head_cpus", "head_memory_gib", "shared_memory_gib", "user", "stop_s"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        if self.ttl_s < 0:
            raise ConfigError(f"ttl_s: need 0 or more, got {self.ttl_s}")


def open_target(settings: Config) -> KubeRay:
    return KubeRay(settings)


class KubeRay:
    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.kubectl = Kubectl(settings.namespace, settings.context)
        self.taken_back: set[str] = set()
        """Jobs stopped here before they had begun; the cluster no longer knows them."""

    def render(self, job: Job) -> str:
        return readable(manifest(job, self.settings, 1))

    def submit(self, job: Job) -> str:
        first = manifest(job, self.settings, 1)  # before anybody is asked: it may be impossible
        attempts = [0]
        for found in self.kubectl.jobs(f"{FOLDER_LABEL}={first['metadata']['labels'][FOLDER_LABEL]}"):
            if not found.has_ended:
                raise ConfigError(f"{job.name}: is {found.described()} there as {found.name}")
            number = found.name.removeprefix(name_prefix(job))
            attempts += [int(number)] if number.isdecimal() else []
        content = manifest(job, self.settings, max(attempts) + 1)
        self.kubectl.create(readable(content))
        return str(content["metadata"]["name"])

    def status(self, job_id: str) -> str:
        if job_id in self.taken_back:
            return "had not begun, and was taken back"
        return self.kubectl.job(job_id).described()

    def follow(self, job_id: str) -> int:
        found = self.kubectl.follow(job_id)
        print(f"{job_id}: {found.described()}")
        return found.exit_status

    def stop(self, job_id: str) -> None:
        if not self.kubectl.stop(job_id, self.settings.stop_s):
            self.taken_back.add(job_id)
