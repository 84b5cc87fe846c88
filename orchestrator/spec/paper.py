"""Published numbers that a sweep file names, and whether the sweep can answer them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from aream.config import config, plain
from aream.errors import ConfigError
from orchestrator.spec.constraints import MissingKey

if TYPE_CHECKING:
    from orchestrator.spec.axes import Values
    from orchestrator.spec.spec import SweepSpec


@config
class PaperRow:
    where: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> value of the configuration it is about; of several that fit, the best ranked is compared."""
    metric: str = "pseudo/miou"
    value: float
    """In the unit of our own metrics: mIoU in [0, 1]."""
    tolerance: float = 0.01
    """Difference that users of the method see between runs of it."""
    source: str | None = None
    """null: that of all rows."""

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ConfigError(f"tolerance: need a number >= 0, got {self.tolerance}")
        if self.metric.split("/")[-1].startswith("miou") and not 0 <= self.value <= 1:
            raise ConfigError(f"value: need an mIoU in [0, 1], got {self.value}")


@config
class Context:
    """A published number of something the sweep does not run."""

    name: str
    metric: str = "pseudo/miou"
    value: float


@config
class Paper:
    source: str
    """Source of the numbers, such as ``AReAM v1 (arXiv:2305.03112), Table 1``."""
    rows: tuple[PaperRow, ...]
    context: tuple[Context, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise ConfigError("rows: need at least one")


def problems(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """Keys of the ``paper`` section and what is wrong with them: keys and values that the sweep does not have."""
    if spec.paper is None:
        return
    for index, row in enumerate(spec.paper.rows):
        here = f"paper.rows[{index}]"
        unknown = [key for key in row.where if not spec.knows(key)]
        for key in unknown:
            yield f"{here}.where.{key}", f"no such key; axes of the sweep are {', '.join(a.key for a in spec.axes)}"
        if not unknown and spec.search is None and not any(fits(spec, row, point) for point in _points(spec)):
            yield f"{here}.where", f"given {dict(row.where)}; matches no configuration of the sweep"


def fits(spec: SweepSpec, row: PaperRow, values: Mapping[str, Any]) -> bool:
    """True if a row describes the configuration at a point of the axes."""
    try:
        return all(plain(spec.read(key, values)) == plain(wanted) for key, wanted in row.where.items())
    except MissingKey:
        return False


def _points(spec: SweepSpec) -> Iterator[Values]:
    for values in spec.training_points():
        yield from spec.variant_points(values)
