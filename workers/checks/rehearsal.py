"""Measure a trial's GPU memory in a few of its steps; its warm-up has neither the method nor the CAMs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch

from aream.infer import infer_cams
from workers.components import backbone_shape
from workers.processes.gpu_memory import GpuMemory
from workers.processes.runtime import Runtime
from workers.stage import Stage
from workers.stages import infer_cam, train_cam

STEPS = 4
"""The second already holds the optimizer's state; the others average over image content."""
INFERRED = 4
"""Images, or batches of them."""


def peak_bytes(
    train: train_cam.Config,
    cams: infer_cam.Config,
    runtime: Runtime,
    memory: GpuMemory,
    others: Iterable[Stage] = (),
) -> int:
    """The most that a trial's process holds for tensors, as far as a few seconds tell.

    Args:
        others: further stages of the trial; those whose module has ``rehearse(config, runtime, steps)`` are rehearsed.

    Raises:
        AreamError: it does not even take a whole GPU, or fails otherwise, as the trial will.
    """
    depth, _ = backbone_shape(train.backbone)
    training = train_cam.prepared(train, torch.ones(depth), runtime)
    memory.forget_peak()
    if train.train.epochs:
        training.rehearse(STEPS)
    inferred = infer_cams(
        training.backbone, training.dataset, "train", cams.cams, device=runtime.device, precision=cams.precision
    )
    for _ in itertools.islice(inferred, INFERRED):
        pass
    del training, inferred
    for stage in others:
        if hasattr(stage.module, "rehearse"):
            stage.module.rehearse(stage.config, runtime, STEPS)
    return memory.peak()
