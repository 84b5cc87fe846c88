"""What ACR costs: a training step against one of two plain views, and localising against a pass forward and backward.

Localising is of drawn scenes with one to three classes each, all their classes together.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aream.backbones import vit
from aream.backbones.protocol import Backbone, BackboneOutput
from aream.engine.batches import Batch
from aream.engine.losses import classification_loss
from aream.engine.ranks import ALONE, Ranks
from aream.labels.training_labels import present_first
from aream.methods import acr
from aream.methods.protocol import FIRST, Losses, Progress, Terms
from benchmarks.measure import CPU, Kind, Result, median_seconds, peak_bytes
from benchmarks.step_cost import Case, drawn_batch, step_of, training_of

KIND: Kind = "cpu"
HOST: Mapping[str, Any] = {
    "vit": "vit_small_patch16_384", "head_kernel": 1, "pooling": "class_token", "final_norm": False,
}  # fmt: skip
SIDE, IMAGES, REPEATS = 384, 8, 2
MOST = {"acr_step": 2.4, "acr_step_memory": 1.5, "acr_localising": 2.0}
"""Of ours in the baseline's."""


class TwoViews(acr.ACR):
    """Both views are classified; their attention is not compared."""

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        def terms(part: Batch, output: BackboneOutput) -> Terms:
            return Terms({"second_view": classification_loss(backbone(part.images.flip(-1)).logits, part.labels)})

        return [functools.partial(terms, part) for part in parts]


def measure(device: torch.device = CPU) -> list[Result]:
    depth, _ = vit.shape(vit.Config(**HOST))
    config = acr.resolve(acr.Config(), depth)
    return [*_step(config, device), _localising(config, device)]


def _step(config: acr.Config, device: torch.device) -> list[Result]:
    case = Case("acr", "vit", HOST, SIDE, batch=2 if device.type == "cpu" else IMAGES, repeats=REPEATS)
    methods: dict[str, acr.ACR] = {"ours": acr.ACR(config), "baseline": TwoViews(config)}
    trainings = {name: training_of(case, method, device) for name, method in methods.items()}
    batch = drawn_batch(trainings["ours"], case)
    steps = {name: step_of(training, batch) for name, training in trainings.items()}
    for step in steps.values():  # the first makes the optimizer's state
        step()
    peaks = {name: peak_bytes(step, device) / 2**20 for name, step in steps.items()}
    return [
        _result("acr_step", median_seconds(steps, REPEATS, device), case.batch, device),
        _result("acr_step_memory", peaks, case.batch, device),
    ]


def _localising(config: acr.Config, device: torch.device) -> Result:
    method = acr.ACR(config)
    case = Case("acr", "vit", HOST, SIDE, batch=IMAGES, repeats=REPEATS)
    training = training_of(case, method, device)
    host, batch = training.backbone.eval(), drawn_batch(training, case).to(device)
    classes, _ = present_first(batch.labels > 0)

    @torch.no_grad()
    def ours() -> None:
        method.localise(host, batch.images, classes)

    def baseline() -> None:
        training.optimizer.zero_grad(set_to_none=True)
        classification_loss(host(batch.images).logits, batch.labels).backward()

    return _result(
        "acr_localising", median_seconds({"ours": ours, "baseline": baseline}, REPEATS, device), IMAGES, device
    )


def _result(name: str, figures: Mapping[str, float], images: int, device: torch.device) -> Result:
    seconds = "CPU s" if device.type == "cpu" else "s"
    of = "a pass forward and backward" if name == "acr_localising" else "the step of two plain views"
    return Result(
        name=name if device.type == "cpu" else f"{name}_{device.type}",
        unit="MiB beyond weights" if name.endswith("memory") else seconds,
        ours=figures["ours"],
        baseline=figures["baseline"],
        required=round(1 / MOST[name], 4),
        input=f"{HOST['vit']}, {images} images at {SIDE} px, random weights",
        difference=f"{figures['ours'] / figures['baseline']:.2f}x {of}, at most {MOST[name]:g}x",
    )
