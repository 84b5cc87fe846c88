"""Trained networks with all that using them takes, and CAMs, as files for other programs and for ``infer``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aream.errors import ConfigError
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore
from workers.components import ENTROPIES_FILE, METHOD_FILE, WEIGHTS_FILE
from workers.files.cams import read_cams
from workers.files.voc_export import written_whole

MODEL_FILE = "model.json"
"""Says what the weights beside it are of, and how they are used."""
HOST, SEGMENTER = "host", "segmenter"


def export_host(store: ArtifactStore, labels: str, classes: Sequence[str], folder: Path) -> int:
    """Write the weights behind pseudo-labels, and how the labels were made with them; returns the number of files.

    Args:
        labels: key of a ``pseudo_label`` artifact.

    Raises:
        ConfigError: the key is of another stage, or the folder is there already.
    """
    record = _record(store, labels, "pseudo_label")
    cams = store.record(record.inputs["cams"])
    config = cams.config
    host = store.get(cams.inputs["host"])
    model = {
        "kind": HOST,
        "classes": list(classes),
        "backbone": config["backbone"],
        "method": config.get("method"),
        "train_image_size": config["train_image_size"],
        "precision": config["precision"],
        "cams": config["cams"],
        "layers": record.config["layers"],
        "labels": record.config["labels"],
        "threshold": record.metrics["pseudo/threshold"],
    }
    files = {host / name: name for name in (WEIGHTS_FILE, METHOD_FILE) if (host / name).is_file()}
    if "entropy" in cams.inputs:
        files[store.get(cams.inputs["entropy"]) / ENTROPIES_FILE] = ENTROPIES_FILE
    return _write(folder, model, files)


def export_segmenter(store: ArtifactStore, evaluated: str, classes: Sequence[str], folder: Path) -> int:
    """Write a segmenter's weights and how it was evaluated; as :func:`export_host`.

    Args:
        evaluated: key of an ``eval_seg`` artifact.
    """
    record = _record(store, evaluated, "eval_seg")
    model = {
        "kind": SEGMENTER,
        "classes": list(classes),
        "model": record.config["model"],
        "crop": record.config["crop"],
        "evaluate": record.config["evaluate"],
        "precision": record.config["precision"],
    }
    return _write(folder, model, {store.get(record.inputs["segmenter"]) / WEIGHTS_FILE: WEIGHTS_FILE})


def export_cams(store: ArtifactStore, labels: str, folder: Path) -> int:
    """Write the CAMs behind pseudo-labels, refined by their layers, as MCTformer and PSA do: ``ID.npy`` with a dict of
    each present class, from 0, and its map in [0, 1]; returns the number of images.

    Raises:
        ConfigError: as of :func:`export_host`.
    """
    record, images = _record(store, labels, "pseudo_label"), 0
    with written_whole(folder) as beside:
        for cams in read_cams(store.get(record.inputs["cams"])):
            write_cam_dictionary(beside, cams.image_id, cams.classes, cams.combine(record.config["layers"]))
            images += 1
    return images


def write_cam_dictionary(folder: Path, image_id: str, classes: Sequence[int], maps: np.ndarray) -> None:
    """``maps``: of the classes, (k, height, width)."""
    table: Any = dict(zip(map(int, classes), maps, strict=True))
    np.save(folder / f"{image_id}.npy", table, allow_pickle=True)


def _record(store: ArtifactStore, key: str, stage: str) -> ArtifactRecord:
    record = store.record(key)
    if record.stage != stage:
        raise ConfigError(f"{key}: is of the stage {record.stage}; need a {stage} artifact")
    return record


def _write(folder: Path, model: Mapping[str, Any], files: Mapping[Path, str]) -> int:
    with written_whole(folder) as beside:
        for path, name in files.items():
            shutil.copyfile(path, beside / name)
        (beside / MODEL_FILE).write_text(json.dumps(model, indent=1), encoding="utf-8")
    return len(files)
