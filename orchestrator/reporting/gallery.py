"""Train images of a report: image, ground truth, CAM, refined CAM and labels beside each other, in their colours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float

from aream.data.dataset import Dataset
from aream.errors import ArtifactCorrupt, ArtifactNotFound, DataError
from aream.infer import UNREFINED, ImageCams
from orchestrator.reporting.drawing import readable
from orchestrator.reporting.examples import Example, chosen, compared_with, image_scores
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
from workers.files.cams import INDEX_FILE, read_cams
from workers.files.labels import read_labels
from workers.stages.pseudo_label import LABELS_FOLDER


@dataclass(frozen=True)
class _Labelled:
    """A configuration whose labels are shown."""

    name: str
    folder: Path
    layers: Sequence[int]
    cams: Mapping[str, ImageCams]
    scores: Scores


def gallery(content: Mapping[str, Any], store: ArtifactStore, dataset: Dataset | None) -> Gallery | None:
    """Of the best configuration's best seed, and of the one that it is compared with; None without masks, labels or
    CAMs. Images are taken from the first file of CAMs, so that a store far away is not read whole."""
    if dataset is None or not content["ranking"]:
        return None
    positions = [position for position in (0, compared_with(content)) if position is not None]
    found = [_labelled(content, position, store, dataset) for position in positions]
    if not found or found[0] is None or not found[0].scores:
        return None
    best, other = found[0], found[1] if len(found) > 1 else None
    examples = chosen(best.scores, None if other is None else other.scores)
    names = [BACKGROUND, *dataset.class_names]
    labelled = [one for one in (best, other) if one is not None]
    shown = [_shown(example, dataset, labelled, names) for example in examples]
    note = (
        f"By the mean IoU of an image's classes, of {len(best.scores)} train images with a mask; labels of the best "
        "seed. Ignored pixels are white. A click shows a picture in its full size."
    )
    colours = legend((best.scores[example.image_id] for example in examples), names)
    return Gallery("Images", note, colours, shown)


def _labelled(content: Mapping[str, Any], position: int, store: ArtifactStore, dataset: Dataset) -> _Labelled | None:
    key = content["ranking"][position]["label_artifact"]
    folder = readable(store, key)
    if folder is None:
        return None
    try:
        record = store.record(key)
        cams = _first_cams(store, record.inputs["cams"])
        layers = tuple(record.config["layers"])
    except (ArtifactNotFound, ArtifactCorrupt, DataError, KeyError, TypeError, ValueError):  # no reason for no report
        return None
    return _Labelled(f"#{position + 1}", folder, layers, cams, image_scores(folder, dataset, list(cams)))


def _first_cams(store: ArtifactStore, key: str) -> dict[str, ImageCams]:
    lines = store.read(key, INDEX_FILE).decode().splitlines()
    shard = json.loads(lines[0])["shard"] if lines else ""
    first = [line for line in lines if json.loads(line)["shard"] == shard]
    with tempfile.TemporaryDirectory() as folder:
        if first:
            (Path(folder) / Path(shard).name).write_bytes(store.read(key, shard))
        (Path(folder) / INDEX_FILE).write_text("\n".join(first), encoding="utf-8")
        return {cams.image_id: cams for cams in read_cams(Path(folder))}


def _shown(example: Example, dataset: Dataset, labelled: Sequence[_Labelled], names: Sequence[str]) -> Shown:
    image, mask = dataset.image(example.image_id), dataset.mask(example.image_id)
    assert mask is not None  # it has scores
    pixels = np.asarray(image, dtype=np.float32)
    best = labelled[0]
    of_both = labelled if example.kind == "differ" else labelled[:1]
    panels = [panel(pixels, "image"), panel(coloured(pixels, mask), "ground truth")]
    if example.kind != "differ":
        panels.append(panel(_heated(pixels, best.cams[example.image_id], UNREFINED), "CAM"))
    ious = []
    for one in of_both:
        if example.image_id not in one.cams or example.image_id not in one.scores:
            continue
        labels = read_labels(one.folder / LABELS_FOLDER / f"{example.image_id}.png")
        if one.layers:
            refined = _heated(pixels, one.cams[example.image_id], one.layers)
            panels.append(panel(refined, f"{one.name}: CAM refined by layers {_run(one.layers)}"))
        panels.append(panel(coloured(pixels, labels), f"{one.name}: pseudo-label"))
        ious.append(iou_sentence(one.name, one.scores[example.image_id], names))
    return Shown(f"{example.image_id}: {KINDS[example.kind]}", panels, ious)


def _run(layers: Sequence[int]) -> str:
    """``0-6`` for neighbours, else all of them."""
    together = list(layers) == list(range(layers[0], layers[0] + len(layers)))
    return f"{layers[0]}-{layers[-1]}" if together and len(layers) > 2 else ", ".join(map(str, layers))


def _heated(pixels: Float[np.ndarray, "h w 3"], cams: ImageCams, layers: Sequence[int]) -> Float[np.ndarray, "h w 3"]:
    """The strongest class's CAM at each pixel, over the image."""
    maps = cams.combine(layers)
    heat = maps.max(axis=0) if len(maps) else np.zeros(pixels.shape[:2])
    return 0.35 * pixels + 0.65 * 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
