"""Entropy of every layer's refined CAM under a plainly trained host, averaged over the train images (AReAM Eqs. 7-8).

The authors do this in a script of its own that leaves a file behind; here it is a stage with an identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from aream.config import Component, config
from aream.engine.batches import SquareImages
from aream.engine.steps import autocast
from aream.entropies import EntropyInput, EntropyMap, EntropyProb, layer_entropies
from aream.errors import DivergedError
from workers.components import ENTROPIES_FILE, trained_host
from workers.metric import Metric, each_layer
from workers.processes.hardware import Part
from workers.stage import Row, StageContext

VERSION = 3
COMPUTES_ON: tuple[Part, ...] = ("device",)
METRICS = (
    Metric(
        "entropy/layer_{}",
        "entropy of the CAM refined by one layer, mean over train images",
        "bits",
        members=each_layer,
    ),
)
BATCH = 16


@config
class Config:
    data: Component
    backbone: Component
    image_size: int
    """Side of the square the images are resized to (the authors: the training size, no crop)."""
    entropy_map: EntropyMap
    entropy_input: EntropyInput
    entropy_prob: EntropyProb
    precision: str


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``host``: a host trained without the affinity loss."""
    device = context.runtime.device
    dataset, backbone = trained_host(config.data, config.backbone, config.image_size, inputs["host"], context.runtime)
    backbone.eval()
    ids = list(dataset.ids("train"))
    total = torch.zeros(backbone.depth, dtype=torch.float64)
    images = SquareImages(dataset, config.image_size, (backbone.mean, backbone.std), context.runtime.loading)
    for batch in context.watched(images.batches(ids, BATCH)):
        with torch.no_grad(), autocast(device, config.precision):
            output = backbone(batch.images.to(device, non_blocking=True))
        entropies = layer_entropies(
            backbone, output, batch.labels.to(device) > 0, config.entropy_input, config.entropy_prob, config.entropy_map
        )
        total += entropies.double().cpu() * len(batch.ids)
    if not torch.isfinite(total).all():
        raise DivergedError(f"entropies of the host's layers are not finite: {total.tolist()}")
    means = (total / len(ids)).tolist()
    (out / ENTROPIES_FILE).write_text(json.dumps(means), encoding="utf-8")
    return {f"entropy/layer_{layer:02d}": value for layer, value in enumerate(means)}
