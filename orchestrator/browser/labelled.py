"""One label set's images: stored labels, ground truth, and labels made anew of the stored maps."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from aream.data.dataset import Dataset
from aream.errors import ConfigError
from aream.labels.pseudo_labels import LevelMap
from aream.labels.thresholds import ScoreLevels
from aream.metrics import class_iou, confusion_matrix
from aream.refiners.protocol import Refiner, network_of
from orchestrator.browser.configurations import Configuration
from orchestrator.spec.recorded import recorded_component
from workers.artifacts.store import ArtifactStore
from workers.components import WEIGHTS_FILE, build_refiner
from workers.files.cams import StoredCams
from workers.files.labels import read_labels
from workers.stages.pseudo_label import LABELS_FOLDER, TOGETHER_BY

CPU = torch.device("cpu")
KEPT = 8
"""Images whose scores are kept for the next threshold."""
MEASURED_SIDE = 64
"""Longer side, in pixels, of the CAM that uncertainty is measured on."""
UNCERTAIN = 0.1
"""A score is uncertain that lies no further from the threshold."""


class Labelled:
    """Labels of one configuration. Safe for use by several threads."""

    def __init__(self, configuration: Configuration, store: ArtifactStore, dataset: Dataset) -> None:
        self.configuration, self.store, self.dataset = configuration, store, dataset
        self.one_at_a_time = threading.RLock()
        self._scores = functools.lru_cache(KEPT)(self._scored)

    @cached_property
    def folder(self) -> Path:
        """Of the label PNGs, on this machine.

        Raises:
            ArtifactNotFound: they were deleted from the store.
        """
        with self.one_at_a_time:
            return self.store.get(self.configuration.key) / LABELS_FOLDER

    @cached_property
    def ids(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.png"))

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.ids)

    @cached_property
    def cams(self) -> StoredCams:
        with self.one_at_a_time:
            return StoredCams(self.store.get(self.configuration.record.inputs[TOGETHER_BY]))

    @cached_property
    def refiner(self) -> Refiner:
        """
        Raises:
            AreamError: its network's weights are not to be had here.
        """
        record = self.configuration.record
        component = recorded_component("aream.refiners", record.config["labels"]["refiner"], "labels.refiner")
        network = record.inputs.get(network_of(component) or "")
        with self.one_at_a_time:
            weights = None if network is None else self.store.get(network) / WEIGHTS_FILE
        return build_refiner(component, weights, CPU)

    def labels(self, image_id: str) -> UInt8[np.ndarray, "h w"]:
        """As stored."""
        return read_labels(self.folder / f"{image_id}.png")

    def depth(self, image_id: str) -> int:
        """Layers that the image's maps can be refined by."""
        with self.one_at_a_time:
            return self.cams[image_id].scales[0].maps.shape[0] - 1

    def cam(self, image_id: str, layers: Sequence[int]) -> tuple[tuple[int, ...], Float32[np.ndarray, "k h w"]]:
        """The image's classes, 0-based, and their CAMs in [0, 1], refined by layers.

        Raises:
            ConfigError: the host has no such layer.
        """
        depth = self.depth(image_id)
        if any(not 0 <= layer < depth for layer in layers):
            raise ConfigError(f"layers: given {list(layers)}; need some of 0..{depth - 1}")
        with self.one_at_a_time:
            cams = self.cams[image_id]
        return cams.classes, cams.combine(layers)

    def relabelled(self, image_id: str, layers: Sequence[int], threshold: float) -> UInt8[np.ndarray, "h w"]:
        """What the labels of an image would be with other layers and another threshold, all else as it is.

        Raises:
            ConfigError: the host has no such layer, or a threshold outside [0, 1).
            AreamError: the refiner cannot be built here.
        """
        if not 0 <= threshold < 1:
            raise ConfigError(f"threshold: given {threshold:g}; need a number in [0, 1)")
        classes, scores = self._scores(image_id, tuple(layers))
        levels = ScoreLevels(np.array([threshold], dtype=np.float32))
        found: UInt8[np.ndarray, "h w"] = LevelMap.of(scores, [c + 1 for c in classes], levels).labels(0).numpy()
        return found

    def _scored(self, image_id: str, layers: tuple[int, ...]) -> tuple[tuple[int, ...], Float32[Tensor, "k h w"]]:
        """The image's classes and their refined CAMs after the refiner."""
        classes, cam = self.cam(image_id, layers)
        scores = torch.from_numpy(cam)
        if classes:
            pixels = torch.from_numpy(np.array(self.dataset.image(image_id))).float().permute(2, 0, 1)[None] / 255
            with torch.no_grad():
                scores = self.refiner.refine(self.refiner.kernel(pixels), scores[None])[0]
        return classes, scores

    def agreement(self, image_id: str, labels: UInt8[np.ndarray, "h w"]) -> dict[str, Any] | None:
        """IoU with the ground truth of each class in either, and their mean; None where the image has no mask."""
        mask = self.dataset.mask(image_id)
        if mask is None:
            return None
        ious = class_iou(confusion_matrix(labels, mask, len(self.dataset.class_names) + 1))
        found = {index: round(float(iou), 4) for index, iou in enumerate(ious) if not np.isnan(iou)}
        return {"iou": round(sum(found.values()) / len(found), 4) if found else None, "classes": found}

    def uncertainty(self, image_id: str) -> float:
        """Share of the image whose strongest score, before the refiner, lies near the threshold."""
        with self.one_at_a_time:
            cams = self.cams[image_id]
        if not cams.classes:
            return 0.0
        small = _shrunk(cams.size)
        strongest = (
            type(cams)(cams.image_id, small, cams.classes, cams.scales).combine(self.configuration.layers).max(0)
        )
        near = np.abs(strongest - self.configuration.record.metrics["pseudo/threshold"]) <= UNCERTAIN
        return round(float(near.mean()), 4)


def _shrunk(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, MEASURED_SIDE / max(size))
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width
