"""Pictures of a report beside each other: an image with what was made of it, and the IoU of that."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aream.cams.overlays import label_colors
from workers.files.labels import PALETTE

SIDE = 256
"""Shorter side of a picture at least, in pixels."""
KINDS = {
    "best": "highest IoU", "median": "median IoU", "worst": "lowest IoU",
    "differ": "the two configurations differ most",
}  # fmt: skip
BACKGROUND = "background"
Scores = dict[str, np.ndarray]
"""Image id -> IoU of each class, NaN for one in neither the labels nor the ground truth."""


@dataclass(frozen=True)
class Panel:
    source: str
    """A data URI."""
    caption: str


@dataclass(frozen=True)
class Shown:
    title: str
    panels: Sequence[Panel]
    ious: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    heading: str
    note: str
    legend: Sequence[tuple[str, str]]
    """Colour and name of the classes that are shown."""
    examples: Sequence[Shown]


def legend(scores: Iterable[Float[np.ndarray, " k"]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and name of every class that an image has."""
    present = sorted({int(index) for one in scores for index in np.flatnonzero(np.isfinite(one))})
    colours = np.array(PALETTE).reshape(256, 3)
    return [("#{:02x}{:02x}{:02x}".format(*colours[index]), names[index]) for index in present]


def iou_sentence(name: str, scores: Float[np.ndarray, " k"], names: Sequence[str]) -> str:
    each = [f"{names[index]} {100 * scores[index]:.0f}" for index in map(int, np.flatnonzero(np.isfinite(scores)))]
    return f"{name}: IoU {', '.join(each)}; mean {100 * float(np.nanmean(scores)):.0f} %"


def coloured(pixels: Float[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    return 0.35 * pixels + 0.65 * label_colors(labels, PALETTE)


def panel(pixels: Float[np.ndarray, "h w 3"], caption: str) -> Panel:
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    factor = max(1, -(-SIDE // min(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format="WEBP", quality=88, method=4)
    return Panel(f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}", caption)
