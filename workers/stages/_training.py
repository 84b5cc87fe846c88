"""Parts that the stages which train a network share: where a training goes on, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aream.engine.loop import TrainingLoop
from workers.components import weights_file
from workers.files.tensors import write_tensors
from workers.ranks.process_group import Checkpoint
from workers.stage import Report, StageContext


def train(
    training: TrainingLoop[Any], context: StageContext, until: int | None = None, start: Path | None = None
) -> None:
    """Train up to and without epoch ``until``, None: to the end, and report all rows, those of before a restart too.

    Args:
        start: the file of a state to begin from where there is no checkpoint; None: as the training is.
    """
    resume(training, context.checkpoint, context.report, start)
    training.run(until, report=context.report, checkpoints=context.checkpoints())


def resume(training: TrainingLoop[Any], checkpoint: Checkpoint, report: Report, start: Path | None) -> None:
    """Put a training where it goes on, and report the rows of before."""
    state = checkpoint.load()
    if state is None and start is not None:
        state = torch.load(start, map_location="cpu", weights_only=True)
    if state is not None:
        training.restore(state)
    for row in training.history:
        report(row)


def keep(training: TrainingLoop[Any], networks: Mapping[str, Mapping[str, torch.Tensor]], out: Path) -> None:
    """The weights of each network in a file of its name, and the history."""
    for network, weights in networks.items():
        content = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        write_tensors(out / weights_file(network), content)
    (out / "history.json").write_text(json.dumps(training.history, indent=1), encoding="utf-8")
