"""A small folder of somebody's own images: discs of a colour a class on noise, masks, and every way to label them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aream.data.examination import inspect
from aream.datasets import folder
from aream.errors import DataError

COLOURS = ((220, 40, 40), (40, 220, 40), (40, 40, 220))
NAMES = ("polyp", "ulcer", "bleeding")


def write_folder(
    root: Path,
    count: int = 12,
    names: Sequence[str] = NAMES,
    *,
    masked: int | None = None,
    empty: int = 0,
    size: tuple[int, int] = (48, 40),
    seed: int = 0,
) -> dict[str, list[str]]:
    """Write ``images/*.{png,jpg}``, ``masks/*.png`` of ids and ``classes.txt``; returns the classes by file name.

    Args:
        masked: images that have a mask, the first ones; None: all.
        empty: every so many-th image shows nothing; 0: none.
    """
    rng, labels = np.random.default_rng(seed), dict[str, list[str]]()
    for place in ("images", "masks"):
        (root / place).mkdir(parents=True)
    for number in range(count):
        present = sorted({number % len(names), *([(number + 1) % len(names)] if number % 3 == 0 else [])})
        present = [] if empty and number % empty == 0 else present
        pixels, mask = scene(rng, present, size)
        name = f"case {number:03d}"
        ending = (".jpg", ".png")[number % 2]
        Image.fromarray(pixels).save(root / "images" / f"{name}{ending}", quality=95)
        if masked is None or number < masked:
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        labels[f"{name}{ending}"] = [names[k] for k in present if (mask == k + 1).any()]
    (root / "classes.txt").write_text("\n".join(names))
    return labels


def scene(
    rng: np.random.Generator, present: Sequence[int], size: tuple[int, int] = (48, 40)
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and ids from 1 on."""
    width, height = size
    pixels = rng.integers(60, 120, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for k in present:
        radius = min(size) // 4
        x, y = rng.integers(radius, width - radius), rng.integers(radius, height - radius)
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
        pixels[inside], mask[inside] = COLOURS[k % len(COLOURS)], k + 1
    return pixels, mask


def names_csv(path: Path, labels: Mapping[str, Sequence[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "labels"), *((name, ";".join(found)) for name, found in labels.items())])
    return path.name


def one_hot_csv(path: Path, labels: Mapping[str, Sequence[str]], names: Sequence[str] = NAMES) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(name, *(int(one in found) for one in names)) for name, found in labels.items()]
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([("file", *names), *rows])
    return path.name


def names_json(path: Path, labels: Mapping[str, Sequence[str]]) -> str:
    path.write_text(json.dumps({name: list(found) for name, found in labels.items()}))
    return path.name


def coco_json(path: Path, labels: Mapping[str, Sequence[str]], names: Sequence[str] = NAMES) -> str:
    content = {
        "images": [{"id": 7 * k, "file_name": name} for k, name in enumerate(labels)],
        "categories": [{"id": 10 + k, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {"id": 0, "image_id": 7 * k, "category_id": 10 + list(names).index(name), "iscrowd": 0}
            for k, found in enumerate(labels.values())
            for name in found
        ],
    }
    path.write_text(json.dumps(content))
    return path.name


def xml_folder(path: Path, labels: Mapping[str, Sequence[str]]) -> str:
    path.mkdir()
    for name, found in labels.items():
        objects = "".join(f"<object><name>{one}</name></object>" for one in found)
        (path / f"{Path(name).stem}.xml").write_text(f"<annotation>{objects}</annotation>")
    return path.name


def npy_dict(path: Path, labels: Mapping[str, Sequence[str]], names: Sequence[str] = NAMES) -> str:
    table = {name: np.array([one in found for one in names], dtype=np.float32) for name, found in labels.items()}
    np.save(path, table)  # type: ignore[arg-type]
    return path.name


def config(root: Path, labels: object, **more: object) -> folder.Config:
    """Of what :func:`write_folder` writes."""
    usual = {"images": "images", "masks": "masks", "classes": "classes.txt", "split": folder.Split(val=0.4)}
    return folder.Config(root=str(root), labels=labels, **{**usual, **more})


def refused(given: folder.Config, *words: str) -> None:
    """It cannot be read, and the error says these words."""
    with pytest.raises(DataError) as caught:
        inspect(folder.build(given))
    for word in words:
        assert word in str(caught.value)
