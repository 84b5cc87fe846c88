"""CAMs of the train images under a trained host; every layer subset is read from what this writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aream.config import Component, config
from aream.infer import CamInference, infer_cams
from workers.components import build_backbone, build_dataset, load_weights
from workers.files.cams import write_cams
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages._training import WEIGHTS_FILE

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device",)
IMAGES = Metric("images", "train images that went through", "images")
METRICS = (IMAGES,)


@config
class Config:
    data: Component
    backbone: Component
    train_image_size: int
    """Side of the training images: the grid the positions were learnt for."""
    cams: CamInference
    precision: str


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``host``: the trained weights."""
    dataset = build_dataset(config.data)
    backbone = build_backbone(config.backbone, len(dataset.class_names), config.train_image_size)
    load_weights(backbone, inputs["host"] / WEIGHTS_FILE)
    device = context.runtime.device
    backbone.to(device)
    images = write_cams(
        out,
        context.watched(infer_cams(backbone, dataset, "train", config.cams, device=device, precision=config.precision)),
    )
    return {"images": float(images)}
