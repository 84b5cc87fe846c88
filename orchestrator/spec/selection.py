"""Select the ranked configurations that train a segmenter: the best, or the best of every method, backbone, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.spec.axes import Values
    from orchestrator.spec.spec import SweepSpec
    from workers.trial import Selection


def selected_at_most(spec: SweepSpec, selection: Selection) -> int:
    """Before there is a ranking."""
    return selection.top * len({group_of(spec, selection, point) for point in spec.points_of(selection.of_each)})


def group_of(spec: SweepSpec, selection: Selection, values: Values) -> str:
    """A key that does not exist at the point makes a group of its own."""
    return repr([spec.read(key, values) if spec.exists(key, values) else None for key in selection.of_each])
