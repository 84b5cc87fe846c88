"""What each layer's affinity alone does to the CAM: best-threshold mIoU a layer (AReAM Figs. 2b and 10)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from aream.config import Component, config
from aream.inference import UNREFINED
from aream.pseudo_labels import LabelsConfig, ThresholdSearch
from workers.cam_files import read_cams
from workers.components import build_dataset
from workers.stage import Row, StageContext

VERSION = 1


@config
class Config:
    data: Component
    depth: int
    labels: LabelsConfig
    """Only the threshold's rule and range are read; no image refinement comes between."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``cams``: what ``infer_cam`` wrote. One pass over the images counts every layer."""
    dataset = build_dataset(config.data)
    classes = len(dataset.class_names) + 1
    subsets = {"none": UNREFINED, "all": tuple(range(config.depth))}
    subsets |= {f"{layer:02d}": (layer,) for layer in range(config.depth)}
    searches = {name: ThresholdSearch(config.labels, classes, dataset.scored_classes) for name in subsets}
    for cams in context.watched(read_cams(inputs["cams"])):
        mask = dataset.mask(cams.image_id)
        if mask is None:
            continue
        for name, layers in subsets.items():
            searches[name].add(cams.image_id, cams.combine(layers), [c + 1 for c in cams.classes], mask)
    choices = {name: search.choose() for name, search in searches.items()}
    content = {
        name: {"miou": choice.miou, "miou_all": choice.miou_all, "threshold": choice.threshold}
        for name, choice in choices.items()
    }
    (out / "layers.json").write_text(json.dumps(content, indent=1))
    return {f"layer/{name}/miou": choice.miou for name, choice in choices.items()}
