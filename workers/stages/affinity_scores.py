"""Scores of every train image's background and classes that an AffinityNet learns from, for both alphas."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import torch

from aream.affinity_net.targets import AffinityScores, class_scores
from aream.config import Component, config
from aream.engine.batches import raw_images
from workers.components import build_dataset
from workers.files.cams import read_cams
from workers.files.scores import write_scores
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages.infer_cam import IMAGES

VERSION = 1
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
METRICS = (IMAGES,)
SCORES_FOLDER = "scores"


@config
class Config:
    data: Component
    layers: tuple[int, ...]
    """Layers whose mean affinity refines the CAM."""
    targets: AffinityScores


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``cams``: what ``infer_cam`` wrote."""
    dataset = build_dataset(config.data, context.runtime)
    (out / SCORES_FOLDER).mkdir()
    device, images = context.runtime.device, 0
    every, ahead = itertools.tee(read_cams(inputs["cams"]))
    pixels = raw_images(dataset, (cams.image_id for cams in ahead), context.runtime.loading)
    for cams, array in context.watched(zip(every, pixels, strict=True)):
        image = torch.from_numpy(array).permute(2, 0, 1)
        scores = class_scores(image.to(device), cams.combined(config.layers, device), config.targets)
        write_scores(scores_file(out, cams.image_id), scores.cpu().numpy())
        images += 1
    return {"images": float(images)}


def scores_file(folder: Path, image_id: str) -> Path:
    return folder / SCORES_FOLDER / f"{image_id}.zlib"
