"""Pseudo-labels of the train images: CAMs refined by one layer subset, a threshold found or given, label PNGs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aream.cams.overlays import overlay
from aream.config import Component, config
from aream.data.dataset import Dataset
from aream.errors import Interrupted
from aream.infer import UNREFINED
from aream.labels.label_free import RULES
from aream.labels.pseudo_labels import LabelsConfig
from aream.refiners.protocol import network_of
from workers.components import WEIGHTS_FILE, build_dataset, build_refiner
from workers.files.cams import read_cams
from workers.files.labels import PALETTE, write_labels
from workers.files.levels import LevelFile
from workers.files.pictures import write_picture
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, Stage, StageContext, Work
from workers.stages._label_pass import Counted, LabelPass

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
LABELS_FOLDER = "labels"
OVERLAYS_FOLDER = "overlays"
OVERLAYS = 6
TOGETHER_BY = "cams"
AS_IT_IS = LabelsConfig().refiner
"""The refiner that does nothing."""
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
    (found,) = run_together([Work(config, inputs, out, context.checkpoint, context.report)], context)
    if isinstance(found, Exception):
        raise found
    return found


def shared(stage: Stage) -> Hashable:
    """They read the same CAMs."""
    return stage.inputs[TOGETHER_BY].key


def run_together(works: Sequence[Work], context: StageContext) -> Iterator[Row | Exception]:
    """Variants of one training's CAMs in one pass over the images."""
    first = works[0]
    dataset = build_dataset(first.config.data, context.runtime)
    with LabelPass(dataset, first.inputs[TOGETHER_BY], first.out, context.runtime.device) as images:
        counted = [
            (
                images.count(work.config.layers, work.config.labels, _weights(work), keep=True),
                images.count(UNREFINED, dataclasses.replace(work.config.labels, refiner=AS_IT_IS), None, keep=False),
            )
            for work in works
        ]
        images.run(context)
        for work, (refined, unrefined) in zip(works, counted, strict=True):
            try:
                yield _finished(work, dataset, refined, unrefined, context)
            except Interrupted:
                raise
            except Exception as error:
                yield error


def rehearse(config: Config, runtime: Runtime, steps: int) -> None:
    """The first images refined with made-up CAMs, for what they take of a GPU. A refiner's network takes less than its
    training, which has a stage of its own."""
    if network_of(config.labels.refiner) is not None:
        return
    dataset, refiner = build_dataset(config.data), build_refiner(config.labels.refiner, None, runtime.device)
    for image_id in list(dataset.ids("train"))[:steps]:
        pixels = (
            torch.from_numpy(np.array(dataset.image(image_id))).to(runtime.device).float().permute(2, 0, 1)[None] / 255
        )
        scores = torch.ones(1, max(1, int(dataset.labels(image_id).sum())), *pixels.shape[2:], device=runtime.device)
        refiner.refine(refiner.kernel(pixels), scores)


def _weights(work: Work) -> Path | None:
    network = work.inputs.get(network_of(work.config.labels.refiner) or "")
    return None if network is None else network / WEIGHTS_FILE


def _finished(work: Work, dataset: Dataset, refined: Counted, unrefined: Counted, context: StageContext) -> Row:
    """Label PNGs and overlays at the threshold that the variant's rule picks."""
    for counted in (refined, unrefined):
        if counted.failure is not None:
            raise counted.failure
    labels, scored = work.config.labels, dataset.scored_classes
    choice, plain = refined.search.choose(labels, scored), unrefined.search.choose(labels, scored)
    assert refined.kept is not None
    (work.out / LABELS_FOLDER).mkdir()
    for image_id, levels in context.watched(refined.kept):
        write_labels(work.out / LABELS_FOLDER / f"{image_id}.png", levels.labels(choice.index).numpy())
    _write_overlays(work, dataset, choice.index, refined.kept)
    summary = {"rule": labels.rule, "refined": asdict(choice), "unrefined": asdict(plain)}
    (work.out / "curve.json").write_text(json.dumps(summary), encoding="utf-8")
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


def _write_overlays(work: Work, dataset: Dataset, index: int, kept: LevelFile) -> None:
    """The first images that show an object and have a mask."""
    (work.out / OVERLAYS_FOLDER).mkdir()
    written = 0
    for cams, (image_id, levels) in zip(read_cams(work.inputs[TOGETHER_BY]), kept, strict=True):
        mask = dataset.mask(image_id)
        if mask is None or not cams.classes:
            continue
        heat, labels = cams.combine(work.config.layers).max(axis=0), levels.labels(index).numpy()
        picture: Image.Image = overlay(dataset.image(image_id), heat, labels, mask, PALETTE)
        write_picture(work.out / OVERLAYS_FOLDER / f"{image_id}.png", picture)
        written += 1
        if written == OVERLAYS:
            return
