"""What MoRe costs with labels of the training pass: a step and its peak memory against those of its host alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from aream.backbones import vit
from aream.methods import mean_affinity, more
from aream.methods.protocol import HostShape, Method
from benchmarks.measure import CPU, Kind, Result, median_seconds, peak_bytes
from benchmarks.step_cost import CLASSES, Case, drawn_batch, step_of, training_of

KIND: Kind = "cpu"
HOST: Mapping[str, Any] = {
    "vit": "vit_small_patch16_224", "class_tokens": "per_class", "registers": 4, "head_kernel": 1, "head_bias": False,
    "rectified": False, "pooling": "channel_max",
}  # fmt: skip
SIDE, IMAGES, REPEATS = 448, 8, 2
MOST = 1.3
"""Of the host's step and memory in ours."""


def measure(device: torch.device = CPU) -> list[Result]:
    images = 2 if device.type == "cpu" else IMAGES
    case = Case("more", "vit", HOST, SIDE, batch=images, repeats=REPEATS)
    settings = vit.Config(**HOST)
    depth, _ = vit.shape(settings)
    shape = HostShape.of(vit.build(settings, CLASSES, SIDE), CLASSES, SIDE)
    methods: dict[str, Method] = {
        "ours": more.build(more.resolve(more.Config(label_mode="online"), depth), None, shape),
        "baseline": mean_affinity.build(mean_affinity.Config()),
    }
    trainings = {name: training_of(case, method, device) for name, method in methods.items()}
    batch = drawn_batch(trainings["ours"], case)
    steps = {name: step_of(training, batch) for name, training in trainings.items()}
    for step in steps.values():  # the first makes the optimizer's state
        step()
    peaks = {name: peak_bytes(step, device) / 2**20 for name, step in steps.items()}
    return [
        _result("more_step", median_seconds(steps, REPEATS, device), images, device),
        _result("more_step_memory", peaks, images, device),
    ]


def _result(name: str, figures: Mapping[str, float], images: int, device: torch.device) -> Result:
    seconds = "CPU s" if device.type == "cpu" else "s"
    return Result(
        name=name if device.type == "cpu" else f"{name}_{device.type}",
        unit="MiB beyond weights" if name.endswith("memory") else seconds,
        ours=figures["ours"],
        baseline=figures["baseline"],
        required=round(1 / MOST, 4),
        input=f"{HOST['vit']}, {images} images at {SIDE} px, {CLASSES} classes, random weights",
        difference=f"{figures['ours'] / figures['baseline']:.2f}x the step of the same host alone, at most {MOST:g}x",
    )
