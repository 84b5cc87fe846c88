"""Figures of an analysis as data: curves over the layers, and pictures. Reports and trackers draw them.

``figures.json`` lists both; pictures lie as PNGs in ``pictures/``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from aream.errors import DataError

FIGURES_FILE = "figures.json"
PICTURES_FOLDER = "pictures"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MOST_VALUES = 10_000


@dataclass(frozen=True)
class Curve:
    """One measure over the layers; a figure shows those of several trials as lines."""

    name: str
    """Name of the measure in trackers, short, such as ``hellinger``."""
    y: str
    """Label of the axis, with a unit where there is one."""
    caption: str
    values: tuple[float, ...]
    """One a layer, from shallow to deep."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Single values to compare with, such as that of all layers together."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DataError(f"{self.name[:80]!r} is not a valid name of a curve")
        numbers = [*self.values, *self.marks.values()]
        if len(numbers) > MOST_VALUES or not all(type(value) is float and math.isfinite(value) for value in numbers):
            raise DataError(f"{self.name}: need at most {MOST_VALUES} finite numbers")


@dataclass(frozen=True)
class Picture:
    name: str
    """Name of the file, without its ending."""
    caption: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DataError(f"{self.name[:80]!r} is not a valid name of a picture")

    @property
    def path(self) -> str:
        """Path in the artifact."""
        return f"{PICTURES_FOLDER}/{self.name}.png"


@dataclass(frozen=True)
class Figures:
    curves: tuple[Curve, ...]
    pictures: tuple[Picture, ...] = ()


def write_figures(out: Path, curves: Sequence[Curve], pictures: Sequence[tuple[Picture, Image.Image]] = ()) -> None:
    """Write what an analysis shows into its artifact."""
    if pictures:
        (out / PICTURES_FOLDER).mkdir()
    for picture, image in pictures:
        image.save(out / picture.path)
    figures = Figures(tuple(curves), tuple(picture for picture, _ in pictures))
    (out / FIGURES_FILE).write_text(json.dumps(asdict(figures), indent=1), encoding="utf-8")


def parse_figures(text: bytes | str) -> Figures:
    """Parse the output of :func:`write_figures`.

    Raises:
        DataError: it did not write this.
    """
    try:
        content = json.loads(text)
        curves = tuple(Curve(**{**curve, "values": tuple(curve["values"])}) for curve in content["curves"])
        return Figures(curves, tuple(Picture(**picture) for picture in content["pictures"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{FIGURES_FILE}: is not a list of figures ({type(error).__name__}: {error})") from error
