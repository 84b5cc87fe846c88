"""Trained networks on images that nobody has labelled: classes, CAMs, label maps and pictures of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image

from aream.cams.overlays import overlay
from aream.config import Component
from aream.datasets.folder import Unlabelled
from aream.engine.validation import validation_scores
from aream.infer import CamInference, infer_cams
from aream.labels.pseudo_labels import LabelsConfig, LevelMap
from aream.labels.thresholds import ScoreLevels
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import predict
from workers.components import (
    ENTROPIES_FILE,
    build_backbone,
    build_refiner,
    build_segmenter,
    load_weights,
    trained_localiser,
)
from workers.files.labels import PALETTE, write_labels
from workers.files.model_export import write_cam_dictionary
from workers.files.pictures import write_picture
from workers.processes.runtime import Runtime

BATCH = 16
LABELS, CAMS, OVERLAYS, TABLE = "labels", "cams", "overlays", "images.csv"


@dataclass(frozen=True)
class HostModel:
    """What ``export_host`` wrote, built."""

    backbone: Component
    method: Component | None
    train_image_size: int
    precision: str
    cams: CamInference
    layers: tuple[int, ...]
    labels: LabelsConfig
    threshold: float


@dataclass(frozen=True)
class SegmenterModel:
    """What ``export_segmenter`` wrote, built."""

    model: Component
    crop: int
    evaluate: SegmentationEvaluation
    precision: str


def infer_host(
    model: HostModel, weights: Path, images: Unlabelled, out: Path, runtime: Runtime, *, presence: float
) -> Iterator[str]:
    """Write labels, CAMs and pictures of every image, and the scores of all classes in ``images.csv``; yields ids as
    they are done.

    Args:
        weights: the folder of the model's files.
        out: an empty folder.
        presence: score above which a class is taken to be in an image, in (0, 1).

    Raises:
        AreamError: weights that do not fit, an image that cannot be read.
    """
    device, side = runtime.device, model.train_image_size
    backbone = build_backbone(model.backbone, len(images.class_names), side)
    load_weights(backbone, weights)
    backbone.to(device)
    scores = _scores(backbone, images, side, model.precision, device)
    found = dict(zip(images.ids("val"), scores, strict=True))
    images.take_labels({one: (score > presence).astype(np.float32) for one, score in found.items()})
    _write_scores(out / TABLE, images, found)
    inputs = {"host": weights, **({"entropy": weights} if (weights / ENTROPIES_FILE).is_file() else {})}
    localise = trained_localiser(model.method, backbone, len(images.class_names), side, inputs)
    refiner = build_refiner(model.labels.refiner, None, device)
    level = ScoreLevels(np.array([model.threshold], dtype=np.float32), device)
    _folders(out, LABELS, CAMS, OVERLAYS)
    for cams in infer_cams(
        backbone, images, "val", model.cams, device=device, precision=model.precision, localise=localise,
        loading=runtime.loading,
    ):  # fmt: skip
        maps = cams.combined(model.layers, device)
        image = images.image(cams.image_id)
        if cams.classes:
            pixels = torch.from_numpy(np.array(image)).to(device).float().permute(2, 0, 1)[None] / 255
            maps = refiner.refine(refiner.kernel(pixels), maps[None])[0]
        ids = [index + 1 for index in cams.classes]
        labels = LevelMap.of(maps, ids, level).labels(0).cpu().numpy()
        shown = maps.cpu().numpy()
        write_cam_dictionary(out / CAMS, cams.image_id, cams.classes, shown)
        heat = shown.max(axis=0) if cams.classes else np.zeros(cams.size, dtype=np.float32)
        _write_picture(out, cams.image_id, image, heat, labels)
        yield cams.image_id


def infer_segmenter(
    model: SegmenterModel, weights: Path, images: Unlabelled, out: Path, runtime: Runtime
) -> Iterator[str]:
    """Write the segmenter's label maps and pictures; as :func:`infer_host`."""
    segmenter = build_segmenter(model.model, len(images.class_names) + 1, model.crop)
    load_weights(segmenter, weights)
    segmenter.to(runtime.device)
    _folders(out, LABELS, OVERLAYS)
    found = predict(
        segmenter, images, "val", model.evaluate, device=runtime.device, precision=model.precision,
        loading=runtime.loading,
    )  # fmt: skip
    for image_id, labels in found:
        _write_picture(out, image_id, images.image(image_id), np.zeros(labels.shape, dtype=np.float32), labels)
        yield image_id


def _scores(
    backbone: Any, images: Unlabelled, side: int, precision: str, device: torch.device
) -> Float32[np.ndarray, "n c"]:
    """Probabilities of every class in every image."""
    logits, _ = validation_scores(backbone, images, side=side, batch_size=BATCH, device=device, precision=precision)
    probabilities: Float32[np.ndarray, "n c"] = torch.from_numpy(logits).sigmoid().float().numpy()
    return probabilities


def _write_scores(path: Path, images: Unlabelled, found: dict[str, Float32[np.ndarray, " c"]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "image", *images.class_names])
        for image_id, scores in found.items():
            place = images.image_path(image_id).relative_to(images.root)
            writer.writerow([image_id, str(place), *(f"{score:.4f}" for score in scores)])


def _write_picture(
    out: Path,
    image_id: str,
    image: Image.Image,
    heat: Float32[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"],
) -> None:
    write_labels(out / LABELS / f"{image_id}.png", labels)
    write_picture(out / OVERLAYS / f"{image_id}.png", overlay(image, heat, labels, None, PALETTE))


def _folders(out: Path, *names: str) -> None:
    for name in names:
        (out / name).mkdir()
