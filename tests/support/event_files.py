"""What TensorBoard reads from a folder of event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def in_tensorboard(root: Path) -> dict[str, Any]:
    """What TensorBoard itself reads, by the name it shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return {
        str(path.parent.relative_to(root)): EventAccumulator(str(path.parent), everything).Reload()
        for path in root.rglob("*tfevents*")
    }


def curves_in_tensorboard(root: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Run -> metric -> (step, value), as often as they are there."""
    return {
        title: {tag: [(point.step, point.value) for point in run.Scalars(tag)] for tag in run.Tags()["scalars"]}
        for title, run in in_tensorboard(root).items()
    }
