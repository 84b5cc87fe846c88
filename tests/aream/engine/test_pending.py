"""Checks that a GPU is asked for later: an error is that of the first step, and nothing of it is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import CONFIG, CPU, host

from aream.backbones.protocol import BackboneOutput
from aream.datasets import shapes
from aream.engine.checkpoints import Checkpoints
from aream.engine.pending import PendingChecks
from aream.errors import DivergedError
from aream.train import Training


def checks(device: str = "cuda") -> PendingChecks:
    return PendingChecks(torch.device(device))


def test_on_a_cpu_each_is_answered_at_once():
    with pytest.raises(ValueError, match="this one"):
        checks("cpu").add(torch.tensor(False), lambda: ValueError("this one"))


def test_elsewhere_the_first_that_fails_is_told_when_some_have_come_together():
    pending = checks()
    for index in range(pending.most - 1):
        pending.add(torch.tensor(index < 5), lambda index=index: ValueError(f"step {index}"))
    with pytest.raises(ValueError, match="step 5"):
        pending.add(torch.tensor(True), lambda: ValueError("the last"))
    pending.settle()  # what was told is not told again
    pending.add(torch.tensor(False), lambda: ValueError("asked"))
    with pytest.raises(ValueError, match="asked"):
        pending.settle()


class FromSomeStep(type(host())):
    """Not a number from the second step on."""

    steps = 0

    def forward(self, images):
        output = super().forward(images)
        self.steps += 1
        if self.steps < 2:
            return output
        return BackboneOutput(tuple(x * torch.nan for x in output.logits), output.cams, output.layers)


@pytest.mark.parametrize("every_s", [0.0, 1e9])
def test_nothing_is_kept_of_a_step_whose_answer_is_not_there_yet(every_s):
    dataset = shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))
    backbone = host()
    backbone.__class__ = FromSomeStep
    training = Training(backbone, None, dataset, CONFIG, 0, device=CPU)
    training.checks.most, kept = 1000, []
    with pytest.raises(DivergedError, match=r"loss is not finite in epoch 1, step 2 \(classification nan\)"):
        training.run(
            report=lambda row: None,
            checkpoints=Checkpoints(save=lambda state: kept.append(copy.deepcopy(state["model"])), every_s=every_s),
        )
    assert len(kept) == (1 if every_s == 0 else 0)
    assert all(value.isfinite().all() for model in kept for value in model.values())
