"""Val images of a report with what a segmenter predicts on them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from aream.data.dataset import Dataset
from orchestrator.reporting.drawing import read_file
from orchestrator.reporting.examples import Example, chosen
from orchestrator.reporting.panels import (
    BACKGROUND,
    KINDS,
    Gallery,
    Scores,
    Shown,
    coloured,
    iou_sentence,
    legend,
    panel,
)
from workers.artifacts.store import ArtifactStore
from workers.files.labels import read_labels
from workers.stages.eval_seg import IMAGES_FILE, PREDICTIONS_FOLDER


def segmenter_gallery(content: Mapping[str, Any], store: ArtifactStore, dataset: Dataset | None) -> Gallery | None:
    """Of the segmenter on the best configuration's labels, its best seed; None without one, or without val masks."""
    done = [job for job in content.get("segmentation", ()) if job["metrics"].get("seg/miou") is not None]
    if dataset is None or not done:
        return None
    job = min(done, key=lambda job: (job["rank"] or 0, -job["metrics"]["seg/miou"]))
    names = [BACKGROUND, *dataset.class_names]
    scores = _scores(store, job["key"], dataset)
    found = {one: _prediction(store, job["key"], one.image_id) for one in chosen(scores, None)}
    shown = {one: labels for one, labels in found.items() if labels is not None}
    if not shown:
        return None
    note = (
        f"By the mean IoU of an image's classes, of {len(scores)} val images with a mask; the segmenter on labels "
        f"{job['title']}. It is scored on val images, which have no pseudo-labels."
    )
    pictures = [_shown(one, labels, scores[one.image_id], dataset, names) for one, labels in shown.items()]
    colours = legend((scores[one.image_id] for one in shown), names)
    return Gallery("Images of the segmenter", note, colours, pictures)


def _scores(store: ArtifactStore, key: str, dataset: Dataset) -> Scores:
    """None of a segmenter that an earlier version scored, which kept no images."""
    text = read_file(store, key, IMAGES_FILE)
    rows = {} if text is None else json.loads(text)
    known, classes = set(dataset.ids("val")), len(dataset.class_names) + 1
    found = {one: np.array(row, dtype=np.float64) for one, row in rows.items() if one in known and len(row) == classes}
    return {one: row for one, row in found.items() if np.isfinite(row).any()}


def _prediction(store: ArtifactStore, key: str, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
    """One alone, without the thousands of others of a store far away."""
    content = read_file(store, key, f"{PREDICTIONS_FOLDER}/{image_id}.png")
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prediction.png"
        path.write_bytes(content)
        return read_labels(path)


def _shown(
    example: Example,
    predicted: UInt8[np.ndarray, "h w"],
    scores: Float[np.ndarray, " k"],
    dataset: Dataset,
    names: Sequence[str],
) -> Shown:
    mask = dataset.mask(example.image_id)
    assert mask is not None  # it has scores
    pixels = np.asarray(dataset.image(example.image_id), dtype=np.float32)
    panels = [
        panel(pixels, "image"),
        panel(coloured(pixels, mask), "ground truth"),
        panel(coloured(pixels, predicted), "segmenter"),
    ]
    return Shown(f"{example.image_id}: {KINDS[example.kind]}", panels, [iou_sentence("segmenter", scores, names)])
