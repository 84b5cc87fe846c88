"""What can be known before a worker is asked for: data that reads, weights that fit."""

from __future__ import annotations

from aream.config import Component
from orchestrator.plan import Planner
from orchestrator.spec import SweepSpec
from workers.components import build_backbone, build_dataset
from workers.trial import TrialConfig


def trial_configs(spec: SweepSpec) -> list[TrialConfig]:
    """Every training point of a grid, or every dataset and backbone that a search may propose."""
    if spec.search is None:
        return [spec.trial(values, spec.seeds[0]) for values in spec.training_points()]
    varied = [axis.key for axis in spec.training_axes() if axis.key.split(".")[0] in ("data", "backbone")]
    return [spec.trial(values, spec.seeds[0]) for values in spec.points_of([*varied, "train.image_size"])]


def fingerprints(spec: SweepSpec) -> dict[str, str]:
    """Read every dataset the sweep names once; returns its content's identity by its component.

    Raises:
        DataError: naming the files that cannot be used.
    """
    found: dict[str, str] = {}
    for component in [spec.base.data, *(trial.data for trial in trial_configs(spec))]:
        if repr(component) not in found:
            found[repr(component)] = build_dataset(component).inspect()
    return found


def check_weights(planner: Planner) -> None:
    """Build every distinct backbone once.

    Raises:
        AreamError: a weight file that is missing or does not fit.
    """
    seen: set[str] = set()
    for trial in trial_configs(planner.spec):
        if _key(trial.backbone) not in seen:
            seen.add(_key(trial.backbone))
            classes = len(build_dataset(trial.data).class_names)
            build_backbone(trial.backbone, classes, trial.train.image_size)


def _key(component: Component) -> str:
    return repr(component)
