"""Gain of each layer's affinity on CAMs of val images, on which the host was not trained: thresholds from train."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from aream.config import config
from aream.errors import DataError
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from workers.analysis import Subject
from workers.files.figures import Curve, write_figures
from workers.metric import Metric, each_layer
from workers.processes.hardware import Part
from workers.stage import Row, Stage, StageContext
from workers.stages import infer_cam, layer_gain

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device", "threads")
NEEDS_TRAIN_MASKS = True
CAPTION = (
    "mIoU of the CAM refined by one layer's affinity alone, val images with masks, their image labels given, at the "
    "threshold that the sweep's rule set on train images; beside it by no layer, and by the mean of all"
)
METRICS = (
    Metric("held_out/none/miou", "mIoU of the CAM that no layer refined, val images with masks", better="max"),
    Metric("held_out/all/miou", "the same refined by the mean of all layers", better="max"),
    Metric("held_out/{}/miou", "the same refined by one layer", better="max", members=each_layer),
)


@config
class Options:
    """Nothing to set."""


@config
class Config:
    infer: infer_cam.Config
    """Settings that made the CAMs of train images; those of val images are made alike."""
    depth: int
    labels: LabelsConfig


def analysis(subject: Subject, options: Options) -> Stage:
    """Return the stage for a variant: thresholds are those that ``layer_gain`` finds on its CAMs."""
    gain = layer_gain.analysis(subject, layer_gain.Options())
    gain = dataclasses.replace(gain, hardware=subject.host.hardware)
    config = Config(infer=subject.cams.config, depth=subject.depth, labels=gain.config.labels)
    return Stage("held_out_gain", config, {**subject.cams.inputs, "gain": gain}, dict(subject.fingerprints))


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Inputs: those of ``infer_cam``; ``gain``, what ``layer_gain`` wrote.

    Raises:
        DataError: no val image has a mask.
    """
    dataset, cams = infer_cam.cams_of(config.infer, inputs, "val", context.runtime)
    found = json.loads((inputs["gain"] / layer_gain.LAYERS_FILE).read_text(encoding="utf-8"))
    subsets, grid = layer_gain.subsets(config.depth), config.labels.grid()
    device, classes = context.runtime.device, len(dataset.class_names) + 1
    counts = {name: ThresholdSearch(grid, classes, device) for name in subsets}
    for image in context.watched(cams):
        mask = dataset.mask(image.image_id)
        if mask is None:
            continue
        for name, layers in subsets.items():
            ids, scores = [c + 1 for c in image.classes], image.combined(layers, device)
            counts[name].add(image.image_id, scores, ids, torch.from_numpy(mask).to(device))
    if not counts["none"].masks:
        raise DataError("held_out_gain needs masks of val images, and none has one")
    every = dataclasses.replace(config.labels, background_threshold="auto")
    mious = {}
    for name, count in counts.items():
        at_threshold = int(np.argmin(np.abs(grid - found[name]["threshold"])))
        mious[name] = count.choose(every, dataset.scored_classes).curve[at_threshold]
    marks = {"none": mious["none"], "all layers": mious["all"]}
    values = tuple(mious[name] for name in subsets if name not in ("none", "all"))
    write_figures(out, [Curve("miou", "mIoU, val", CAPTION, values, marks)])
    return {f"held_out/{name}/miou": value for name, value in mious.items()}
