"""The sections of a sweep file that are not a trial's configuration."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Literal

from aream import discover
from aream.config import Component, components, config
from aream.errors import ConfigError
from orchestrator.spec.metrics import better
from orchestrator.spec.paper import Paper
from orchestrator.spec.place import Place
from workers.analysis import options_class
from workers.metric import Better
from workers.processes.masking import hide
from workers.staging.cache import MAX_BYTES

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
RAY_RESOURCES = ("cpu", "gpu", "memory", "object_store_memory")
TRACKERS = "orchestrator.tracking.backends"
STORAGES = ("sqlite:///", "postgresql://")
MOST_IN_A_BANK = 8
"""Of ``bank: auto``: loading is an eighth for each by then."""


@config
class Goal:
    """A metric and the end of it that is looked for."""

    metric: str
    mode: Better

    def merit(self, metrics: Mapping[str, float]) -> float:
        """Return the metric's value, its sign changed where less is better: the higher, the better."""
        return metrics[self.metric] if self.mode == "max" else -metrics[self.metric]

    def best(self, results: Iterable[dict[str, float]]) -> dict[str, float]:
        """Return the first of the best results; an empty one if none has the metric."""
        return max((metrics for metrics in results if self.metric in metrics), key=self.merit, default={})


def goal(metric: str, mode: Better | None = None) -> Goal:
    """``mode`` None: the metric's own better end."""
    return Goal(metric=metric, mode=mode or better(metric) or "max")


@config
class Objective:
    metric: str
    """Metric of a trial's best variant, or ``cost/seconds`` or ``cost/gpu_seconds``."""
    mode: Literal["max", "min"] | None = None
    """null: the metric's own better end."""


@config
class Search:
    algorithm: Literal["tpe", "random", "nsga2", "gp"] = "tpe"
    trials: int
    """Points to try, each at every seed. Raised, the same search goes on."""
    seed: int = 0
    objectives: tuple[Objective, ...] = ()
    """Objectives of the search; none: the sweep's ``rank``. The mean over seeds counts."""
    storage: str | None = None
    """Optuna storage, ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``; null: a file in the sweep's folder."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seed < 0:
            raise ConfigError(f"trials: need a positive number and a seed >= 0, got {self.trials} and {self.seed}")
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) != len(metrics):
            raise ConfigError(f"objectives: need different metrics, got {', '.join(metrics)}")
        if self.storage is not None and not self.storage.startswith(STORAGES):
            raise ConfigError(f"storage: need null or a URL that starts with {' or '.join(STORAGES)}")


@config
class Scheduler:
    name: Literal["asha", "median"] = "asha"
    metric: str = "val/map"
    """Reported every epoch."""
    mode: Literal["max", "min"] | None = None
    """null: the metric's own better end."""
    grace_epochs: int = 1
    """Epochs after the warm-up that every trial gets: those of the warm-up are shared and tell no trials apart."""
    reduction_factor: int = 3
    """For asha: 1 in ``reduction_factor`` trials goes on to the next rung, which has that many times the epochs."""
    min_trials: int = 3
    """For median: number of trials that must have reached an epoch before one can be stopped there."""

    def __post_init__(self) -> None:
        if self.grace_epochs < 1:
            raise ConfigError(f"grace_epochs: need a positive number, got {self.grace_epochs}")
        if self.reduction_factor < 2:
            raise ConfigError(f"reduction_factor: need 2 or more, got {self.reduction_factor}")
        if self.min_trials < 1:
            raise ConfigError(f"min_trials: need a positive number, got {self.min_trials}")


@config
class Rank:
    metric: str = "pseudo/miou"
    mode: Literal["max", "min"] | None = None
    """null: the metric's own better end."""


@config
class Resource:
    cpu: float = 1.0
    """Cores, of all processes together; torch computes with as many threads."""
    gpu: float | Literal["auto"] = 0.0
    """A fraction up to 1, which others share the GPU with; a whole number: one process a GPU; or ``auto``: as many
    trials share a GPU as their measured memory allows, and on a cluster without one they run on CPUs."""
    processes: int | None = None
    """Processes of a trial, on one node, that share every batch; null: one per GPU, or one without a GPU. The steps
    are those of one process but for rounding, so trials with other numbers of processes are other trials."""
    bank: int | Literal["auto"] = 1
    """Trials of a grid whose trainings differ in their methods alone that train in one process, before all else of
    them: a batch is loaded once and each takes its turn at it, with the bytes that it has alone. A number: the most of
    them; ``auto``: as many as let no slot of the cluster work for longer. Those that the memory of a slot does not
    hold form further banks. Orders for one of these trials are followed when their bank has ended."""
    custom: Mapping[str, float] = field(default_factory=dict)
    """Ray resources that a node must have beside these, such as a kind of GPU (``a100: 1``); nodes name what they have
    with ``ray start --resources``."""

    @property
    def gpus(self) -> float:
        """GPUs of a job; none while ``auto`` is not decided."""
        return 0.0 if self.gpu == "auto" else self.gpu

    @property
    def most_in_a_bank(self) -> int:
        return MOST_IN_A_BANK if self.bank == "auto" else self.bank

    @property
    def threads(self) -> int:
        """Number of torch's CPU threads."""
        return max(1, int(self.cpu))

    @property
    def process_count(self) -> int:
        return self.processes or max(1, int(self.gpus))

    def __post_init__(self) -> None:
        if self.cpu <= 0:
            raise ConfigError(f"cpu: need a positive number, got {self.cpu}")
        if self.gpus < 0 or (self.gpus > 1 and not float(self.gpus).is_integer()):
            raise ConfigError(f"gpu: need auto, a fraction in [0, 1] or a whole number, got {self.gpu}")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"processes: need a positive number or null, got {self.processes}")
        if self.most_in_a_bank < 1:
            raise ConfigError(f"bank: need auto or a positive number, got {self.bank}")
        if self.most_in_a_bank > 1 and (self.process_count > 1 or self.gpu == "auto"):
            raise ConfigError(
                f"bank: several trainings in a process need one process and a number in gpu, which auto measures "
                f"for one training; got bank {self.bank}, {self.process_count} processes and gpu {self.gpu}"
            )
        if self.gpus not in (0, self.process_count) and self.process_count > 1:
            raise ConfigError(f"gpu: need 0 or one for each of the {self.process_count} processes, got {self.gpu}")
        for name, amount in self.custom.items():
            if name.lower() in RAY_RESOURCES or not name.isprintable() or not name.strip():
                raise ConfigError(f"custom: need a name other than {', '.join(RAY_RESOURCES)}, got {name!r}")
            if amount <= 0 or (amount > 1 and not float(amount).is_integer()):
                raise ConfigError(f"custom: {name}: need a fraction in (0, 1] or a whole number, got {amount}")


@config
class Resources:
    trial: Resource = Resource()
    segmentation: Resource = Resource()
    autoscaling: bool = False
    """True if the cluster starts nodes on demand: resources that no node has now are waited for, not refused."""

    def __post_init__(self) -> None:
        if self.segmentation.process_count > 1:
            raise ConfigError("segmentation: a segmenter trains in one process: need at most one GPU and process")
        if self.segmentation.most_in_a_bank > 1:
            raise ConfigError(f"segmentation: segmenters share no batches: need bank 1, got {self.segmentation.bank}")


@config
class Limits:
    """When a sweep, or a trial of it, ends before its work is done."""

    retries: int = 3
    """Retries of a trial or stage after its worker or node died, or a disk or network failed; each goes on
    from its checkpoint. What its code raises by itself is not tried again."""
    failures: int | None = None
    """Failed trials at which the sweep ends; null: it goes on. ``--fail-fast`` means 1."""
    gpu_hours: float | None = None
    """GPU share times hours, over all runs of this sweep, at which it ends; run it again with more to go on."""
    wall_hours: float | None = None
    """Hours after which one run of this sweep ends; run it again to go on."""
    stalled_minutes: float = 30.0
    """A running stage that shows no sign of work for so long is killed and tried again."""

    def __post_init__(self) -> None:
        for name in ("failures", "gpu_hours", "wall_hours", "stalled_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}: need a positive number, got {value}")
        if self.retries < 0:
            raise ConfigError(f"retries: need 0 or more, got {self.retries}")


@config
class Notify:
    """A POST of JSON with ``text``, ``event``, ``sweep`` and the counts of its tasks; chat services show ``text``."""

    webhook_env: str | None = None
    """Environment variable that holds the URL: a webhook's URL is a secret, and this file is kept with the results.
    null: AREAM_WEBHOOK, where it is set."""
    events: tuple[Literal["done", "failed", "stalled", "stopped"], ...] = ("done", "failed", "stalled", "stopped")
    """Events to report: the sweep's end, a failed trial, a stalled trial, a sweep stopped early."""

    def __post_init__(self) -> None:
        if self.webhook_env is not None and not VARIABLE.fullmatch(self.webhook_env):
            hide(self.webhook_env)
            raise ConfigError(
                "webhook_env: need the name of an environment variable (letters, digits, _) that holds the webhook's"
                " URL, not the URL; what was given is not shown, as it may be a secret"
            )


@config
class Nodes:
    """Checks of a cluster's nodes before the sweep uses any."""

    answer_seconds: float = 120.0
    """A node that has not answered for so long counts as silent; Ray drops one that is gone after about 60."""
    read_minutes: float = 120.0
    """Longest that a node may take to fetch and read data and weights."""

    def __post_init__(self) -> None:
        for name in ("answer_seconds", "read_minutes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")


@config
class Staging:
    """Each node's local copies of data and weights given as URIs."""

    max_bytes: int = MAX_BYTES
    """Size limit of the node's staging folder, in bytes; a node's own AREAM_STAGING_BYTES takes precedence."""
    endpoint: str | None = None
    """URL of the server that ``s3://`` means there; null: that of the store."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigError(f"max_bytes: need a positive number, got {self.max_bytes}")


def _default_tracker() -> Component:
    return Component(name="mlflow", config=discover.load(importlib.import_module(TRACKERS), "mlflow").Config())


@config
class Settings(Place):
    """The parts of a sweep file that are not a trial's configuration."""

    plugins: tuple[str, ...] = ()
    """Files outside of this project, PATH.py or the name of an installed module, each one more backbone, method or what
    its ``KIND`` says; relative paths start where the command runs."""
    seeds: tuple[int, ...] = (0,)
    search: Search | None = None
    scheduler: Scheduler | None = None
    rank: Rank = Rank()
    analyses: tuple[Component, ...] = components(options_class)
    """Stages that look at what each trial made: names, or sections with a name and options."""
    paper: Paper | None = None
    """Published numbers that the results are held against."""
    resources: Resources = Resources()
    limits: Limits = Limits()
    notify: Notify = Notify()
    concurrency: int | None = None
    """Trials beside each other at most; null: as many as the resources allow."""
    tracking: Component = field(default_factory=_default_tracker, metadata={"component": TRACKERS})
    """Backend that records runs; without a name, MLflow."""
    nodes: Nodes = Nodes()
    staging: Staging = Staging()

    def __post_init__(self) -> None:
        Place.__post_init__(self)  # slots leave no super()
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds: need one or more different numbers >= 0, got {list(self.seeds)}")
        if self.resources.trial.most_in_a_bank > 1 and (self.search or self.scheduler):
            raise ConfigError(
                f"resources.trial.bank: need 1 with a search, whose trials are not known before, and with a scheduler, "
                f"which ends some of them early; got {self.resources.trial.bank}"
            )
        chosen = [analysis.name for analysis in self.analyses]
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"analyses: need different ones, got {', '.join(chosen)}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigError(f"concurrency: need a positive number or null, got {self.concurrency}")
