"""The sections of a sweep file that are not a trial's configuration."""

from __future__ import annotations

import re
from typing import Literal

from aream.config import config
from aream.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@config
class Search:
    algorithm: Literal["tpe", "random"] = "tpe"
    trials: int
    """Points to try, each at every seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seed < 0:
            raise ConfigError(f"trials: need a positive number and a seed >= 0, got {self.trials} and {self.seed}")


@config
class Scheduler:
    name: Literal["asha"] = "asha"
    metric: str = "val/map"
    """Reported every epoch; larger is better."""
    grace_epochs: int = 1
    """Epochs that every trial gets."""
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.grace_epochs < 1:
            raise ConfigError(f"grace_epochs: need a positive number, got {self.grace_epochs}")
        if self.reduction_factor < 2:
            raise ConfigError(f"reduction_factor: need 2 or more, got {self.reduction_factor}")


@config
class Rank:
    metric: str = "pseudo/miou"
    mode: Literal["max", "min"] = "max"


@config
class Resource:
    cpu: float = 1.0
    gpu: float = 0.0
    """A fraction up to 1, or a whole number."""

    def __post_init__(self) -> None:
        if self.cpu <= 0:
            raise ConfigError(f"cpu: need a positive number, got {self.cpu}")
        if self.gpu < 0 or (self.gpu > 1 and not float(self.gpu).is_integer()):
            raise ConfigError(f"gpu: need a fraction in [0, 1] or a whole number, got {self.gpu}")


@config
class Resources:
    trial: Resource = Resource()
    segmentation: Resource = Resource()


@config
class Tracking:
    uri: str | None = None
    """MLflow tracking URI; null: MLFLOW_TRACKING_URI, else sqlite in the runs folder."""
    experiment: str | None = None
    """MLflow experiment; null: the sweep's name."""


@config
class Store:
    uri: str | None = None
    """Folder or file:// URI of the artifact store; null: artifacts in the runs folder."""


@config
class Settings:
    """The parts of a sweep file that are not a trial's configuration."""

    name: str
    seeds: tuple[int, ...] = (0,)
    search: Search | None = None
    scheduler: Scheduler | None = None
    rank: Rank = Rank()
    analyses: tuple[Literal["layer_gain"], ...] = ()
    resources: Resources = Resources()
    concurrency: int | None = None
    """Trials beside each other at most; null: as many as the resources allow."""
    tracking: Tracking = Tracking()
    store: Store = Store()
    runs: str = "runs"
    """Folder of results, checkpoints and the default store, relative to where the command runs."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(f"name: need letters, digits, . _ - (at most 64, no leading sign), got {self.name!r}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds: need one or more different numbers >= 0, got {list(self.seeds)}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigError(f"concurrency: need a positive number or null, got {self.concurrency}")
