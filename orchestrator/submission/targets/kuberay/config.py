"""The section of a lab file about its Kubernetes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from aream.config import config
from aream.errors import ConfigError


@config
class Mount:
    claim: str
    """PersistentVolumeClaim with data or weights; mounted read-only on all nodes."""
    path: str
    """Absolute folder."""


@config
class Redis:
    """A Redis in which the head node's state outlives its pod (GCS fault tolerance)."""

    address: str
    """HOST:PORT."""
    secret: str | None = None
    """Secret that holds the password; None: it has none."""
    key: str = "password"
    """Key of the password in the secret."""


@config
class Toleration:
    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    def __post_init__(self) -> None:
        if self.operator == "Exists" and self.value is not None:
            raise ConfigError(f"value: needs `operator: Equal` beside it, got {self.operator} and {self.value!r}")


@config
class Config:
    image: str | None = None
    """Container image with this package, bash and wget; ``--image`` wins. One of the two is needed."""
    namespace: str = "default"
    context: str | None = None
    """Context of kubectl; None: the current one."""
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
    """Shared memory of each node, for Ray's object store and the loaders; a part of its memory."""
    gpu_resource: str = "nvidia.com/gpu"
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Ray resources of a worker beside CPUs and GPUs, for sweeps that ask for some by name."""
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Node selector of the workers."""
    tolerations: tuple[Toleration, ...] = ()
    """Tolerations of the workers."""
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
