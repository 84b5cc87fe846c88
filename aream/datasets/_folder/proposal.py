"""A look at somebody's folder: what its settings are likely to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from aream.data.files import read_bounded
from aream.data.images import LOSSLESS_FORMATS, colours, indices, is_coloured
from aream.data.palette import voc_palette
from aream.datasets._folder.config import FOLDERS, FROM_MASKS, Config, Masks, Split
from aream.datasets._folder.files import IMAGE_ENDINGS, files_under, is_hidden, without_ending
from aream.errors import DataError, DataUnavailable
from aream.metrics import IGNORE

LOOKED_AT = 16
"""Files of a folder that are decoded to see whether they are masks."""
MOST_VALUES = 64
"""Different values or colours up to which a picture may be a mask."""
MASK_SUFFIXES = ("_mask", "-mask", "_gt", "_label", "_seg", "_segmentation")
CLASS_FILES = ("classes.txt", "class_names.txt", "names.txt", "obj.names", "classes.json", "class_names.json")
TABLE_ENDINGS = (".csv", ".tsv", ".json", ".npy", ".npz")
VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True)
class Seen:
    """Values and colours that some masks show."""

    values: frozenset[int]
    painted: frozenset[tuple[int, int, int]]


@dataclass(frozen=True)
class Candidates:
    """Settings to try, the likeliest first, with what is to be told of them."""

    settings: Sequence[Mapping[str, Any]]
    remarks: Sequence[str]
    named: bool
    """True if a file names the classes; else they have names to be replaced."""
    outside: Sequence[str]
    """Pictures that are neither among the images nor among their masks."""


def candidates(root: Path) -> Candidates:
    """Every way to read the folder's labels that its files suggest.

    Raises:
        DataError: there is no image.
    """
    files = [path for path in files_under(root) if not is_hidden(path)]
    pictures = [path for path in files if path.lower().endswith(IMAGE_ENDINGS)]
    if not pictures:
        raise DataError(f"{root}: no image; looked at {len(files)} files for {', '.join(IMAGE_ENDINGS)}")
    images, masks = _pair(root, pictures)
    of_images = [path for path in pictures if _under(path, images) and not (masks and _under(path, masks))]
    settings: dict[str, Any] = {"images": images or "**"}
    remarks: list[str] = []
    classes = next((name for name in files if PurePosixPath(name).name.lower() in CLASS_FILES), None)
    if classes is not None:
        settings["classes"] = classes
    if masks is not None:
        settings |= _masks(root, masks, pictures, classes is not None, remarks)
    settings |= _split(files, images, of_images)
    made = [{**settings, "labels": place} for place in _labels(files, images, of_images, classes, masks is not None)]
    read = {*of_images, *(path for path in pictures if masks and _under(path, masks))}
    return Candidates(made, remarks, classes is not None, [path for path in pictures if path not in read])


def _under(path: str, folder: str) -> bool:
    if "{" in folder:
        return without_ending(path).endswith(folder.rpartition("}")[2].rpartition(".")[0])
    return not folder or path.startswith(f"{folder}/")


def _pair(root: Path, pictures: Sequence[str]) -> tuple[str, str | None]:
    """The folder of the images, and the folder or pattern of masks called alike."""
    inside: dict[str, set[str]] = {}
    paths: dict[str, list[str]] = {}
    for path in pictures:
        for above in PurePosixPath(path).parents:
            folder = "" if str(above) == "." else str(above)
            own = path.removeprefix(f"{folder}/") if folder else path
            inside.setdefault(folder, set()).add(without_ending(own))
            paths.setdefault(folder, []).append(path)
    shared = Counter(name for names in inside.values() for name in names)
    paired = [folder for folder, names in inside.items() if folder and any(shared[name] > 1 for name in names)]
    of_masks = {folder: _seen(root, paths[folder]) is not None for folder in paired}
    found: list[tuple[int, int, str, str]] = []
    for masks in (folder for folder in paired if of_masks[folder]):
        for images in (folder for folder in paired if not of_masks[folder]):
            apart = not f"{images}/".startswith(f"{masks}/") and not f"{masks}/".startswith(f"{images}/")
            alike = len(inside[images] & inside[masks]) if apart else 0
            if alike:
                found.append((alike, -len(images), images, masks))
    if found:
        _, _, images, masks = max(found)
        return images, masks
    stems = {path: without_ending(path) for path in pictures}
    known = {*stems.values()}
    for suffix in MASK_SUFFIXES:
        mine = [path for path, stem in stems.items() if stem.endswith(suffix) and stem.removesuffix(suffix) in known]
        if mine and len({PurePosixPath(path).suffix for path in mine}) == 1:
            base = _common(pictures)
            pattern = f"{base}/{{path}}{suffix}{PurePosixPath(mine[0]).suffix}".removeprefix("/")
            return base, pattern
    return _with_endings(pictures) or (_common(pictures), None)


def _with_endings(pictures: Sequence[str]) -> tuple[str, str] | None:
    """The folder of the images, and the pattern of masks in a folder of theirs alone: ``truth/{name}_mask.png``."""
    folders: dict[PurePosixPath, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, pictures):
        folders.setdefault(path.parent, []).append(path)
    for folder, masks in folders.items():
        rest = [path for path in pictures if PurePosixPath(path).parent != folder]
        names, endings = {PurePosixPath(path).stem for path in rest}, {path.suffix for path in masks}
        for suffix in MASK_SUFFIXES:
            ours = all(path.stem.endswith(suffix) and path.stem.removesuffix(suffix) in names for path in masks)
            if ours and len(endings) == 1 and _common(rest):
                return _common(rest), f"{folder}/{{name}}{suffix}{masks[0].suffix}".removeprefix("./")
    return None


def _common(paths: Sequence[str]) -> str:
    """The folder that all lie in."""
    parts = [PurePosixPath(path).parent.parts for path in paths]
    shared = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    ends = next((at for at, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), len(shared))
    return "/".join(shared[:ends])


def _seen(root: Path, paths: Sequence[str]) -> Seen | None:
    """None where some picture has more values than a mask has."""
    values: set[int] = set()
    painted: set[tuple[int, int, int]] = set()
    for path in paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]:
        try:
            content = read_bounded(root / path)
            if is_coloured(root / path, content):
                different = np.unique(colours(root / path, content).reshape(-1, 3), axis=0)
                painted |= {(int(red), int(green), int(blue)) for red, green, blue in different[: MOST_VALUES + 1]}
            else:
                values |= {int(value) for value in np.unique(indices(root / path, content, LOSSLESS_FORMATS))}
        except DataUnavailable:
            raise
        except DataError:
            return None
        if len(values) > MOST_VALUES or len(painted) > MOST_VALUES:
            return None
    return Seen(frozenset(values), frozenset(painted))


def _masks(root: Path, masks: str, pictures: Sequence[str], named: bool, remarks: list[str]) -> dict[str, Any]:
    """The convention that the values or colours suggest, and names of classes where no file has them."""
    seen = _seen(root, [path for path in pictures if _under(path, masks)]) or Seen(frozenset(), frozenset())
    if seen.painted and named and seen.painted <= _voc_colours():
        return {"masks": {"files": masks, "stored": "palette"}}
    if seen.painted:
        own = sorted(seen.painted - {(0, 0, 0)})
        remarks.append(
            "masks are painted: give every class its name and colour, and `ignore` a colour if one means that"
        )
        rgb = {f"class_{number}": list(colour) for number, colour in enumerate(own, start=1)}
        return {"masks": {"files": masks, "rgb": rgb}, "classes": list(rgb)}
    own_values = sorted(seen.values - {0})
    if len(own_values) == 1 and own_values != [1]:
        return {"masks": {"files": masks, "binary": own_values[0]}, **({} if named else {"classes": ["object"]})}
    if named:
        return {"masks": masks}
    most = max((value for value in own_values if value != IGNORE), default=1)
    remarks.append(f"no file names the classes: give the names of the mask ids 1..{most}, in their order")
    return {"masks": masks, "classes": [f"class_{number}" for number in range(1, most + 1)]}


def _voc_colours() -> set[tuple[int, int, int]]:
    palette = voc_palette()
    return set(zip(palette[::3], palette[1::3], palette[2::3], strict=True))


def _split(files: Sequence[str], images: str, of_images: Sequence[str]) -> dict[str, Any]:
    """Folders or lists called train and val; else nothing: it is drawn."""
    parents = {str(above) for path in of_images for above in PurePosixPath(path).parents}
    for val in VAL_NAMES:
        folder = f"{images}/" if images else ""
        if {f"{folder}train", f"{folder}{val}"} <= parents:
            return {"split": {"train": f"{folder}train", "val": f"{folder}{val}"}}
        for path in files:
            other = f"{path.removesuffix('train.txt')}{val}.txt"
            if PurePosixPath(path).name == "train.txt" and other in files:
                return {"split": {"train": path, "val": other}}
    return {}


def _labels(
    files: Sequence[str], images: str, of_images: Sequence[str], classes: str | None, masked: bool
) -> Iterator[str]:
    """What may hold labels: tables, those with ``label`` in their name first, XML, folders, masks."""
    tables = [path for path in files if path.lower().endswith(TABLE_ENDINGS) and path != classes]
    yield from sorted(tables, key=lambda path: ("label" not in path.lower(), path))
    annotations = Counter(str(PurePosixPath(path).parent) for path in files if path.lower().endswith(".xml"))
    yield from (folder for folder, _ in annotations.most_common() if folder != ".")
    own = (path.removeprefix(f"{images}/") if images else path for path in of_images)
    above = {parts[-2] if len(parts) > 1 else "" for parts in (PurePosixPath(path).parts for path in own)}
    if len(above - {"train", *VAL_NAMES}) > 1 and "" not in above:
        yield FOLDERS
    if masked:
        yield FROM_MASKS


def with_names(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The same with other names of the classes, in their order."""
    made = {**settings, "classes": list(names)}
    masks = settings.get("masks")
    if isinstance(masks, Mapping) and "rgb" in masks:
        made["masks"] = {**masks, "rgb": dict(zip(names, masks["rgb"].values(), strict=True))}
    return made


def as_config(root: Path, settings: Mapping[str, Any]) -> Config:
    """Settings as a sweep file has them, built."""
    made = dict(settings)
    if isinstance(made.get("masks"), Mapping):
        given = dict(made["masks"])
        if "rgb" in given:
            given["rgb"] = {name: tuple(colour) for name, colour in given["rgb"].items()}
        made["masks"] = Masks(**given)
    if isinstance(made.get("classes"), list):
        made["classes"] = tuple(made["classes"])
    if "split" in made:
        made["split"] = Split(**made["split"])
    return Config(root=str(root), **made)
