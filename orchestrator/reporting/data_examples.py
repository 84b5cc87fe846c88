"""A few images of a dataset with their masks and labels, to see how it was understood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aream.cams.overlays import label_colors
from aream.data.dataset import Dataset
from aream.data.findings import SPLITS
from aream.errors import DataError
from aream.metrics import IGNORE
from orchestrator.reporting.drawing import shortened, write_picture
from workers.files.labels import PALETTE

EXAMPLES, COLUMNS = 6, 3
LOOKED_AT = 200
"""Images of a split that are asked for classes which no example shows yet."""
LONGEST = 32


def write_examples(dataset: Dataset, path: Path) -> None:
    """Write six images as one PNG: each under its mask, with its id, split and labels; below, the colours.

    Raises:
        DataError: no image of it can be read.
    """
    chosen = list(_chosen(dataset))
    if not chosen:
        raise DataError("no image that can be read")
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3.6 * rows + 0.8))
    *places, _, below, _ = figure.subplots(rows + 1, COLUMNS, height_ratios=[*[1.0] * rows, 0.15]).flatten()
    ids: set[int] = set()
    for place in figure.axes:
        place.set_axis_off()
    for place, (split, image_id, picture, mask) in zip(places, chosen, strict=False):
        place.imshow(picture)
        labels = ", ".join(dataset.class_names[int(k)] for k in np.flatnonzero(dataset.labels(image_id))) or "no class"
        named = f"{split}: {shortened(image_id, LONGEST)}\n{shortened(labels, LONGEST)}"
        place.set_title(named + ("" if mask is not None else " (no mask)"), fontsize=9)
        ids |= set() if mask is None else {int(value) for value in np.unique(mask)}
    names = {0: "background", **dict(enumerate(dataset.class_names, start=1)), IGNORE: "ignored"}
    colours = label_colors(np.arange(256, dtype=np.uint8)[None], PALETTE)[0] / 255
    patches = [Patch(facecolor=colours[i], edgecolor="grey", label=shortened(names[i], LONGEST)) for i in sorted(ids)]
    if patches:
        below.legend(handles=patches, loc="center", ncols=min(8, len(patches)), fontsize=9, frameon=False)
    figure.tight_layout()
    write_picture(figure, path)


Example = tuple[str, str, UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]
"""Split, id, picture, mask."""


def _chosen(dataset: Dataset) -> Iterator[Example]:
    """Images with a mask before those without, and what shows another class before more of the same."""
    ordered = [(split, one) for split in SPLITS for one in dataset.ids(split)[:LOOKED_AT]]
    shown: set[int] = set()
    first: list[tuple[str, str]] = []
    later: list[tuple[str, str]] = []
    for split, one in ordered:
        present = {int(k) for k in np.flatnonzero(dataset.labels(one))}
        (first if present - shown else later).append((split, one))
        shown |= present
    found = [example for split, one in (*first, *later)[: 4 * EXAMPLES] if (example := _example(dataset, split, one))]
    yield from sorted(found, key=lambda example: example[3] is None)[:EXAMPLES]


def _example(dataset: Dataset, split: str, image_id: str) -> Example | None:
    """None where a file cannot be read, which the check tells."""
    try:
        pixels, mask = np.asarray(dataset.image(image_id)), dataset.mask(image_id)
    except DataError:
        return None
    if mask is None or mask.shape != pixels.shape[:2]:
        return split, image_id, pixels, None
    mixed = 0.5 * pixels + 0.5 * label_colors(mask, PALETTE)
    return split, image_id, np.where((mask == 0)[..., None], pixels, mixed).astype(np.uint8), mask
