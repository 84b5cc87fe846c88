"""Pseudo-labels of the train images: CAMs refined by one layer subset, a threshold found or given, label PNGs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from aream.cams.overlays import overlay
from aream.config import Component, config
from aream.data.dataset import Dataset
from aream.errors import DataError
from aream.infer import UNREFINED, ImageCams
from aream.labels.label_free import RULES, Contrast
from aream.labels.pseudo_labels import LabelsConfig, LevelMap, ThresholdSearch
from aream.refiners.protocol import Refiner, network_of
from workers.components import WEIGHTS_FILE, build_dataset, build_refiner
from workers.files.cams import read_cams
from workers.files.labels import PALETTE, write_labels
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.stage import Row, StageContext

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
LABELS_FOLDER = "labels"
OVERLAYS_FOLDER = "overlays"
OVERLAYS = 6
BATCH_PIXELS = 2**17
WITH_MASKS = "train images that have masks"
SEARCH = "search"
"""Of the thresholds compared, the best one."""


def by_rule(rule: str) -> str:
    """The metric that says what a rule's threshold gives, whichever rule set the labels'."""
    return f"pseudo/miou_{rule}"


MIOU = Metric("pseudo/miou", f"mIoU of the pseudo-labels, {WITH_MASKS}", better="max", shown="always")
MIOU_ALL = Metric(
    "pseudo/miou_all", f"the same over all classes, not only the dataset's scored ones; {WITH_MASKS}",
    better="max", shown="report",
)  # fmt: skip
CLASSES = Metric(
    "pseudo/classes", f"scored classes in the masks, over which pseudo/miou is taken, {WITH_MASKS}", unit="classes"
)
METRICS = (
    Metric("cam/miou", f"mIoU of the CAM before any refinement, {WITH_MASKS}", better="max", shown="always"),
    Metric("cam/miou_all", f"the same over all classes; {WITH_MASKS}", better="max"),
    Metric("cam/threshold", "background threshold of the CAM before any refinement"),
    MIOU,
    MIOU_ALL,
    CLASSES,
    Metric("pseudo/threshold", "background threshold of the pseudo-labels", shown="report"),
    Metric(by_rule(SEARCH), f"mIoU at the best of all thresholds, {WITH_MASKS}", better="max"),
    *(Metric(by_rule(rule), f"mIoU at the threshold that {rule} picks, {WITH_MASKS}", better="max") for rule in RULES),
)


@config
class Config:
    data: Component
    layers: tuple[int, ...]
    """Layers whose mean affinity refines the CAM."""
    labels: LabelsConfig


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``cams``: what ``infer_cam`` wrote; the trained network of a refiner that needs one, by its name."""
    dataset = build_dataset(config.data)
    network = inputs.get(network_of(config.labels.refiner) or "")
    weights = None if network is None else network / WEIGHTS_FILE
    device = context.runtime.device
    refiner = build_refiner(config.labels.refiner, weights, device)
    thresholds, classes = config.labels.grid(), len(dataset.class_names) + 1
    search, unrefined = (ThresholdSearch(thresholds, classes, device) for _ in range(2))
    packed: dict[str, PackedLevels] = {}
    for batch in context.watched(same_sized(read_cams(inputs["cams"]))):
        images = torch.stack([torch.from_numpy(np.array(dataset.image(cams.image_id))) for cams in batch]).to(device)
        refined = refined_scores(batch, config.layers, refiner, images)
        for cams, scores, image in zip(batch, refined, images, strict=True):
            truth, ids = dataset.mask(cams.image_id), [c + 1 for c in cams.classes]
            mask = None if truth is None else torch.from_numpy(truth).to(device)
            contrast = Contrast.of(image)
            unrefined.add(cams.image_id, cams.combined(UNREFINED, device), ids, mask, contrast)
            packed[cams.image_id] = PackedLevels(search.add(cams.image_id, scores, ids, mask, contrast))
    if not packed:
        raise DataError("no image to label: the train split is empty")
    choice, plain = (counts.choose(config.labels, dataset.scored_classes) for counts in (search, unrefined))
    (out / LABELS_FOLDER).mkdir()
    for image_id, levels in packed.items():
        write_labels(out / LABELS_FOLDER / f"{image_id}.png", levels.unpack().labels(choice.index).numpy())
    _write_overlays(config, dataset, inputs["cams"], out, choice.index, packed)
    summary = {"rule": config.labels.rule, "refined": asdict(choice), "unrefined": asdict(plain)}
    (out / "curve.json").write_text(json.dumps(summary))
    metrics = {
        "pseudo/miou": choice.miou,
        "pseudo/miou_all": choice.miou_all,
        "pseudo/classes": float(choice.classes) if choice.curve else None,
        "pseudo/threshold": choice.threshold,
        **{by_rule(rule): miou for rule, miou in choice.alternatives().items()},
        "cam/miou": plain.miou,
        "cam/miou_all": plain.miou_all,
        "cam/threshold": plain.threshold,
    }
    return {name: value for name, value in metrics.items() if value is not None}  # None: made of masks, without any


def same_sized(images: Iterable[ImageCams]) -> Iterator[list[ImageCams]]:
    """Consecutive images of one size, as many as ``BATCH_PIXELS`` allow: small ones would cost mostly calls."""
    batch: list[ImageCams] = []
    for cams in images:
        height, width = cams.size
        if batch and (batch[0].size != cams.size or (len(batch) + 1) * height * width > BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(cams)
    if batch:
        yield batch


def refined_scores(
    batch: Sequence[ImageCams],
    layers: tuple[int, ...],
    refiner: Refiner,
    images: UInt8[Tensor, "b h w 3"],
) -> list[Float32[Tensor, "k h w"]]:
    """CAMs at image size after layer and image refinement, of images of one size, on their device."""
    scores = [cams.combined(layers, images.device) for cams in batch]
    most = max(len(maps) for maps in scores)
    if most == 0:
        return scores
    stacked = torch.zeros(len(batch), most, *batch[0].size, device=images.device)
    for index, maps in enumerate(scores):
        stacked[index, : len(maps)] = maps
    refined = refiner.refine(images.float().permute(0, 3, 1, 2) / 255, stacked)
    return [refined[index, : len(maps)] for index, maps in enumerate(scores)]


class PackedLevels:
    """A level map compressed, so that those of all images fit in memory and nothing is computed twice."""

    def __init__(self, level_map: LevelMap) -> None:
        self.shape = level_map.classes.shape
        both = torch.stack([level_map.classes, level_map.levels]).cpu().numpy()
        self.bytes = zlib.compress(both.tobytes(), level=1)

    def unpack(self) -> LevelMap:
        both = torch.frombuffer(bytearray(zlib.decompress(self.bytes)), dtype=torch.uint8)
        return LevelMap(*both.reshape(2, *self.shape))


def _write_overlays(
    config: Config, dataset: Dataset, folder: Path, out: Path, index: int, packed: Mapping[str, PackedLevels]
) -> None:
    """The first images that show an object and have a mask."""
    (out / OVERLAYS_FOLDER).mkdir()
    written = 0
    for cams in read_cams(folder):
        mask = dataset.mask(cams.image_id)
        if mask is None or not cams.classes:
            continue
        picture: Image.Image = overlay(
            dataset.image(cams.image_id),
            cams.combine(config.layers).max(axis=0),
            packed[cams.image_id].unpack().labels(index).numpy(),
            mask,
            PALETTE,
        )
        picture.save(out / OVERLAYS_FOLDER / f"{cams.image_id}.png")
        written += 1
        if written == OVERLAYS:
            return
