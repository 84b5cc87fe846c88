"""Gain of each layer's affinity alone on the CAM: best-threshold mIoU a layer (AReAM Figs. 2b and 10)."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from aream.config import Component, config
from aream.engine.batches import raw_images
from aream.errors import DataError
from aream.infer import UNREFINED
from aream.labels.label_free import Contrast
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from aream.labels.thresholds import CPU
from workers.analysis import Subject
from workers.components import build_dataset
from workers.files.cams import read_cams
from workers.files.figures import Curve, write_figures
from workers.metric import Metric, each_layer
from workers.processes.hardware import Part
from workers.stage import Row, Stage, StageContext

VERSION = 1
COMPUTES_ON: tuple[Part, ...] = ("threads",)
NEEDS_TRAIN_MASKS = True
LAYERS_FILE = "layers.json"
CAPTION = (
    "mIoU of the CAM refined by one layer's affinity alone, threshold by the sweep's rule, train images with masks; "
    "beside it by no layer, by the mean of all, and by the best one (AReAM Figs. 2 and 10)"
)

METRICS = (
    Metric("layer/none/miou", "mIoU of the CAM that no layer refined, train images with masks", better="max"),
    Metric("layer/all/miou", "the same refined by the mean of all layers", better="max"),
    Metric("layer/best/miou", "the same refined by the best single layer", better="max"),
    Metric("layer/{}/miou", "the same refined by one layer", better="max", members=each_layer),
)


@config
class Options:
    """Nothing to set."""


@config
class Config:
    data: Component
    depth: int
    labels: LabelsConfig
    """Settings of which only the threshold's rule and range are read; no image refinement comes between."""


def analysis(subject: Subject, options: Options) -> Stage:
    """Return the stage for a variant, whose CAMs it reads."""
    labels = subject.trial.labels
    plain = dataclasses.replace(labels, refiner=type(labels)().refiner)
    config = Config(data=subject.trial.data, depth=subject.depth, labels=plain)
    return Stage("layer_gain", config, {"cams": subject.cams}, {"data": subject.fingerprints["data"]})


def subsets(depth: int) -> dict[str, tuple[int, ...]]:
    """Name -> layers: none of them, all, and each alone."""
    single = {f"{layer:02d}": (layer,) for layer in range(depth)}
    return {"none": UNREFINED, "all": tuple(range(depth))} | single


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``cams``: what ``infer_cam`` wrote. One pass over the images counts every layer."""
    dataset = build_dataset(config.data, context.runtime)
    classes = len(dataset.class_names) + 1
    chosen = subsets(config.depth)
    searches = {name: ThresholdSearch(config.labels.grid(), classes) for name in chosen}
    every = read_cams(inputs["cams"])
    images: Iterable[np.ndarray | None] = itertools.repeat(None)
    if config.labels.rule == "edges":
        every, ahead = itertools.tee(every)
        images = raw_images(dataset, (cams.image_id for cams in ahead), context.runtime.loading)
    for cams, image in context.watched(zip(every, images, strict=False)):
        mask = dataset.mask(cams.image_id)
        if mask is None:
            continue
        contrast = None if image is None else Contrast.of(torch.from_numpy(image))
        for name, layers in chosen.items():
            ids, scores = [c + 1 for c in cams.classes], cams.combined(layers, CPU)
            searches[name].add(cams.image_id, scores, ids, torch.from_numpy(mask), contrast)
    choices = {name: search.choose(config.labels, dataset.scored_classes) for name, search in searches.items()}
    mious = {name: choice.miou for name, choice in choices.items() if choice.miou is not None}
    if not mious:
        raise DataError("layer_gain needs masks of train images, and none has one")
    content = {
        name: {"miou": choice.miou, "miou_all": choice.miou_all, "threshold": choice.threshold}
        for name, choice in choices.items()
    }
    (out / LAYERS_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    single = tuple(mious[name] for name in chosen if name not in ("none", "all"))
    mious["best"] = max(single)
    marks = {"none": mious["none"], "all layers": mious["all"], "best layer": mious["best"]}
    write_figures(out, [Curve("miou", "mIoU", CAPTION, single, marks)])
    return {f"layer/{name}/miou": value for name, value in mious.items()}
