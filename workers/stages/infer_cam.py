"""CAMs of the train images under a trained host; every layer subset is read from what this writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aream.config import Component, config
from aream.infer import CamInference, infer_cams
from workers.components import trained_host
from workers.files.cams import write_cams
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext

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
    device = context.runtime.device
    dataset, backbone = trained_host(config.data, config.backbone, config.train_image_size, inputs["host"], device)
    images = write_cams(
        out,
        context.watched(infer_cams(backbone, dataset, "train", config.cams, device=device, precision=config.precision)),
    )
    return {"images": float(images)}
