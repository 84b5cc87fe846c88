"""Scores of every train image's background and classes that an AffinityNet learns from, for both alphas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from aream.affinity_net.targets import AffinityScores, class_scores
from aream.config import Component, config
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
    dataset = build_dataset(config.data)
    (out / SCORES_FOLDER).mkdir()
    device, images = context.runtime.device, 0
    for cams in context.watched(read_cams(inputs["cams"])):
        image = torch.from_numpy(np.array(dataset.image(cams.image_id))).permute(2, 0, 1)
        scores = class_scores(image.to(device), cams.combined(config.layers, device), config.targets)
        write_scores(scores_file(out, cams.image_id), scores.cpu().numpy())
        images += 1
    return {"images": float(images)}


def scores_file(folder: Path, image_id: str) -> Path:
    return folder / SCORES_FOLDER / f"{image_id}.zlib"
