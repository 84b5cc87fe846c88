"""CAMs of the train images under a trained host; every layer subset is read from what this writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from aream.config import Component, added, config
from aream.data.dataset import Dataset
from aream.infer import CamInference, ImageCams, infer_cams
from workers.components import trained_host, trained_localiser
from workers.files.cams import write_cams
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, StageContext

VERSION = 4
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
    method: Component | None = added(None)
    """Method that finds the maps; null: the host."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Inputs: ``host``, the trained weights; ``entropy``, where a method finds the maps that was trained with it."""
    images = write_cams(out, context.watched(cams_of(config, inputs, "train", context.runtime)[1]))
    return {"images": float(images)}


def cams_of(
    config: Config, inputs: Mapping[str, Path], split: str, runtime: Runtime
) -> tuple[Dataset, Iterator[ImageCams]]:
    """The dataset, and the CAMs of one of its splits."""
    size = config.train_image_size
    dataset, backbone = trained_host(config.data, config.backbone, size, inputs["host"], runtime)
    localise = trained_localiser(config.method, backbone, len(dataset.class_names), size, inputs)
    cams = infer_cams(
        backbone,
        dataset,
        split,
        config.cams,
        device=runtime.device,
        precision=config.precision,
        localise=localise,
        loading=runtime.loading,
    )
    return dataset, cams
