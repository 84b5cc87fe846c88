"""Remarks on a method whose loss terms have too little gradient to matter, or more than the host's own loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.text import many
from workers.stages.train_cam import GRADIENT

IDLE, TAKEN_OVER = 1e-2, 1.0
"""Norm of the method's gradient on the layers that it supervises, as a multiple of the host's own: below, its loss did
next to nothing; above, most of what these layers learnt was its."""


def pull_remarks(metrics: Iterable[Mapping[str, float]]) -> list[str]:
    """
    Args:
        metrics: of every training.
    """
    pulls = [row[GRADIENT.name] for row in metrics if GRADIENT.name in row]
    idle = [pull for pull in pulls if pull < IDLE]
    strong = [pull for pull in pulls if pull > TAKEN_OVER]
    every, remarks = many(len(pulls), "training"), []
    if idle:
        remarks.append(
            f"the method's loss did next to nothing in {len(idle)} of {every}: its gradient on the "
            f"layers that it supervises is {min(idle):.2g} of the host's own at the least (under {IDLE:g}); a "
            "greater weight, a learning rate that does not end with the warm-up, or more epochs after it let it act"
        )
    if strong:
        remarks.append(
            f"the method's loss took over in {len(strong)} of {every}: its gradient on the layers that "
            f"it supervises is {max(strong):.2g} times the host's own at the most; maps may get worse where it does"
        )
    return remarks
