"""What AReAM adds to a training step of its host: time and peak memory against the classifier's own step.

A step is the whole one of ``Training``: labels, forward, losses, backward, AdamW; images are decoded before. Times are
of one like most; memory is of one like few in an epoch, in which the method's gradient is held against the host's own
too: a machine must hold that one. What such a step takes, and the step as published, are measured for context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from aream import backbones, discover
from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.images import to_tensor
from aream.layers import DEFAULT_SPLIT, first_deep_layer
from aream.methods import aream, mean_affinity
from aream.methods.protocol import Method
from aream.train import Training, seed_everything
from aream.train_config import TrainConfig
from benchmarks.measure import Result, median_seconds, peak_bytes
from benchmarks.published_step import PublishedAReAM, published

CLASSES = 20
LEAST_CLASSIFIER_SHARE = {"one_forward": 1 / 1.6, "online": 1 / 1.25, "memory": 1 / 1.3}
"""Of the classifier's step in ours: labels from one extra forward or from the training's own; peak memory of any."""
CHECKED_IMAGES = 2


@dataclass(frozen=True)
class Case:
    """A host at its training size."""

    name: str
    backbone: str
    settings: Mapping[str, Any]
    side: int
    batch: int
    repeats: int
    published: bool = False
    """Whether the published step is written for this host."""


WAYS = {
    "one_forward": aream.Config(label_flip=False),
    "online": aream.Config(label_mode="online"),
    "flip": aream.Config(),
}
"""How labels are made; the default takes two extra forwards."""


def step_cost(case: Case, device: torch.device) -> Iterator[Result]:
    module = discover.load(backbones, case.backbone)
    depth, _ = module.shape(module.Config(**case.settings))
    split = first_deep_layer(depth, None, getattr(module, "PUBLISHED_SPLIT", DEFAULT_SPLIT))
    ways = {name: aream.resolve(dataclasses.replace(config, layer_index=split), depth) for name, config in WAYS.items()}
    trainings = {"classifier": training_of(case, mean_affinity.build(mean_affinity.Config()), device)}
    trainings |= {name: training_of(case, aream.build(config), device) for name, config in ways.items()}
    batch = drawn_batch(trainings["classifier"], case)
    difference = 0.0
    if case.published:
        trainings["published"] = training_of(case, PublishedAReAM(ways["flip"]), device)
        difference = _difference(trainings["flip"], trainings["published"], batch)
    steps = {name: step_of(training, batch) for name, training in trainings.items()}
    for step in steps.values():  # the first makes the optimizer's state
        step()
    comparing = {name: step_of(training, batch, comparing=True) for name, training in trainings.items()}
    peaks = {name: peak_bytes(step, device) for name, step in comparing.items()}
    once = median_seconds({"published": steps.pop("published")}, 1, device) if case.published else {}
    seconds = median_seconds(steps | {"comparing": comparing["online"]}, case.repeats, device) | once
    about = f"batch {case.batch}, {case.side} px, {CLASSES} classes, random weights"
    for name in (*WAYS, "comparing", *once):
        yield _result(f"step_{case.name}_{name}", name, seconds, device, about, difference)
    for name in (*WAYS, *once):
        yield _result(f"step_{case.name}_{name}_memory", "memory", peaks, device, about, difference, of=name)


def training_of(case: Case, method: Method, device: torch.device) -> Training:
    seed_everything(0)
    module = discover.load(backbones, case.backbone)
    host = module.build(module.Config(**case.settings), CLASSES, case.side)
    if isinstance(method, PublishedAReAM):
        host = published(host)
    config = TrainConfig(
        batch_size=case.batch, image_size=case.side, epochs=1, warmup_epochs=0, lr_warmup_epochs=0, precision="fp32"
    )
    dataset = shapes.build(shapes.Config(image_size=case.side, train_images=case.batch, val_images=1))
    training = Training(host, method, dataset, config, 0, device=device)
    host.train()
    return training


def drawn_batch(training: Training, case: Case) -> Batch:
    """Drawn scenes with one to three classes each, among the first of ``CLASSES``."""
    dataset, host = training.dataset, training.backbone
    ids = list(dataset.ids("train"))
    images = torch.stack([to_tensor(dataset.image(image_id), host.mean, host.std) for image_id in ids])
    labels = torch.zeros(case.batch, CLASSES)
    labels[:, : len(dataset.class_names)] = torch.stack([torch.from_numpy(dataset.labels(i)) for i in ids])
    return Batch(images, labels, ids)


def step_of(training: Training, batch: Batch, comparing: bool = False) -> Callable[[], None]:
    """``comparing``: one in which the method's gradient is held against the host's own, as the first of an epoch."""

    def step() -> None:
        training.step = 0 if comparing else 1
        training.train_step(batch)

    return step


def _difference(ours: Training, theirs: Training, batch: Batch) -> float:
    """Relative, of the affinity losses of both from the same weights without drop path."""
    (few, *_) = batch.to(ours.device).split(CHECKED_IMAGES)
    found = []
    for training in (ours, theirs):
        training.backbone.eval()
        assert training.method is not None
        with torch.no_grad():
            (losses,) = training.method.losses_of_parts(training.backbone, [few])
            found.append(losses(training.backbone(few.images)).losses["affinity"].item())
        training.backbone.train()
    return abs(found[0] - found[1]) / abs(found[1])


def _result(
    name: str,
    limit: str,
    figures: Mapping[str, float],
    device: torch.device,
    about: str,
    difference: float,
    of: str | None = None,
) -> Result:
    """``figures`` hold the classifier's and that of ``of`` (else of ``limit``)."""
    ours, baseline = figures[of or limit], figures["classifier"]
    least = 0.0 if of == "published" else LEAST_CLASSIFIER_SHARE.get(limit, 0.0)
    memory = limit == "memory"
    unit = "MiB beyond weights" if memory else "CPU s" if device.type == "cpu" else "s"
    scale = 2**20 if memory else 1
    return Result(
        name=name if device.type == "cpu" else f"{name}_{device.type}",
        unit=unit,
        ours=ours / scale,
        baseline=baseline / scale,
        required=round(least, 4),
        input=about,
        same=difference < 1e-4,
        difference=f"{ours / baseline:.2f}x the classifier's step"
        + (f", at most {1 / least:.2f}x" if least else ", for context"),
    )
