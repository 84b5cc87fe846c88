"""Which images of a folder are trained on, and which are kept to validate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from aream.data.files import refuse_link_out
from aream.data.findings import Findings
from aream.datasets._folder.classes import read_text
from aream.datasets._folder.config import Split
from aream.datasets._folder.files import shown
from aream.datasets._folder.pairs import Pairs
from aream.errors import DataError

NAMED = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
"""What a column may call the splits."""


def split_images(
    root: Path,
    split: Split,
    pairs: Pairs,
    column: Mapping[str, str],
    find: Callable[[str], str | None],
    found: Findings,
) -> dict[str, list[str]]:
    """Ids of each split; images of neither are left out and ``found``.

    Args:
        column: what the table says of each image, where ``split.column`` is given.
        find: gives the id of the image that a list names.

    Raises:
        DataError: a list or folder that is not there.
    """
    if split.column is not None:
        return _of_column(pairs, column, found)
    if not isinstance(split.val, str):
        return _drawn(pairs, split, found)
    val = _of_place(root, split.val, "val", pairs, find, found)
    kept = set(val)
    if split.train is None:
        train: Sequence[str] = [one for one in pairs.images if one not in kept]
    else:
        train = _of_place(root, split.train, "train", pairs, find, found)
    used = kept.union(train)
    for one, path in pairs.images.items():
        if one not in used:
            found.leave_out("lists", "images are in neither split", shown(path))
    return {"train": list(train), "val": val}


def draws_val(image_id: str, share: float, seed: int) -> bool:
    """Return True for about that share of images, the same ones whatever others there are."""
    digest = hashlib.sha256(f"{seed} {image_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _drawn(pairs: Pairs, split: Split, found: Findings) -> dict[str, list[str]]:
    """Only images with a mask can be val where there are masks: a segmenter is scored on them."""
    drawn = {one for one in pairs.images if draws_val(one, split.share, split.seed)}
    val = {one for one in drawn if one in pairs.masks} if pairs.masks else drawn
    if not val and pairs.images:
        every = len(pairs.masks or pairs.images)
        words = (
            f"split: val {split.share:g} with seed {split.seed} drew none of {every} images; give another, or a list"
        )
        found.add("lists", "no image is drawn for val", words, "val")
    words = f"{len(val)} of {len(pairs.images)} images are val, drawn by their names with seed {split.seed}"
    found.notes.append(("lists", "val", words))
    return {
        "train": [one for one in pairs.images if one not in val],
        "val": [one for one in pairs.images if one in val],
    }


def _of_column(pairs: Pairs, column: Mapping[str, str], found: Findings) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for one, path in pairs.images.items():
        said = column.get(one)
        use = NAMED.get((said or "").casefold())
        if use is not None:
            splits[use].append(one)
        elif said is not None:  # an image without a row has no labels either, which is told there
            kind = f"the split column says {shown(said[:40])!r}, neither train nor val"
            found.leave_out("lists", kind, shown(path))
    return splits


def _of_place(
    root: Path, place: str, split: str, pairs: Pairs, find: Callable[[str], str | None], found: Findings
) -> list[str]:
    """The images of a folder, or of a list with a name a line."""
    path = root / place
    if path.is_dir():
        return [one for one, image in pairs.images.items() if image.startswith(f"{PurePosixPath(place)}/")]
    refuse_link_out(path, (root, path.parent))
    ids: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        try:
            one = find(name)
            one = find(name.split()[0]) if one is None else one
        except DataError as error:
            found.add("lists", "listed names may be several images", f"{path}:{number}: {error}", split)
            continue
        if one is None:
            words = f"{path}:{number}: no image {shown(name[:120])!r}"
            found.add("lists", "listed images are missing", words, split)
        elif one in ids:
            words = f"{path}:{number}: {one} stands on line {ids[one]} already"
            found.add("lists", "ids are listed again", words, split)
        else:
            ids[one] = number
    found.notes.append(("lists", split, f"{len(ids)} images of {path}"))
    return list(ids)
