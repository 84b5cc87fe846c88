"""CAMs on disk: fp16 maps on the patch grid in safetensors shards, with an index of a line an image; no pickle.

Every map is divided by a power of two, that of its class and view, so that its largest value lies in [1/2, 1): as in
float32, what is kept are 11 bits, whether a host's maps are around 1e-6 or 1e6.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Float16, Float32, Float64
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aream.data.files import bounded_lines, unreadable
from aream.data.images import MAX_PIXELS
from aream.data.lists import SAFE_ID
from aream.errors import DataError
from aream.images import MAX_SCALE
from aream.infer import ImageCams, ScaleMaps
from aream.metrics import IGNORE
from workers.files.tensors import write_tensors

IMAGES_A_SHARD = 512
INDEX_FILE = "index.jsonl"
SHARD_NAME = "cams-{:05d}.safetensors"
SHARD = re.compile(r"cams-[0-9]{5,}\.safetensors")
LEAST_COVERED = 1 / 1024
"""Share of the grid that an image covers at least: one pixel of the largest patch."""
T = TypeVar("T")
EXPONENTS = range(-148, 129)
"""Of float32."""
View = tuple[tuple[float, float], tuple[int, int] | None, bool]
"""The fields of :class:`ScaleMaps` that describe its maps."""


def write_cams(folder: Path, cams: Iterable[ImageCams]) -> int:
    """Write ``index.jsonl`` and ``cams-*.safetensors``; returns the number of images."""
    images, remaining = 0, iter(cams)
    with (folder / INDEX_FILE).open("w", encoding="utf-8") as index:
        for number, shard in enumerate(iter(lambda: list(islice(remaining, IMAGES_A_SHARD)), [])):
            name, tensors = SHARD_NAME.format(number), {}
            for image in shard:
                views = []
                for position, scale in enumerate(image.scales):
                    tensors[f"{image.image_id}/{position}"], exponents = _halved(scale.maps)
                    view = {"covered": scale.covered, "size": scale.size, "mirrored": scale.mirrored}
                    views.append(view | {"exponents": exponents})
                entry = {"id": image.image_id, "shard": name, "size": image.size, "classes": image.classes}
                index.write(json.dumps(entry | {"views": views}) + "\n")
            write_tensors(folder / name, tensors)
            images += len(shard)
    return images


def read_cams(folder: Path) -> Iterator[ImageCams]:
    """The images in the order they were written, their maps in float32.

    Raises:
        DataError: the folder holds no CAM index, or its entries are not what :func:`write_cams` writes.
    """
    shards = _Shards(folder)
    return (shards.image(entry) for entry in _read_index(folder / INDEX_FILE))


class StoredCams(Mapping[str, ImageCams]):
    """The same by image id, each read when it is asked for; order is that of writing. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            DataError: it is none.
        """
        self.shards = _Shards(folder)
        self.entries = {entry.id: entry for entry in _read_index(folder / INDEX_FILE)}

    def __getitem__(self, image_id: str) -> ImageCams:
        """
        Raises:
            KeyError: no image of that id has CAMs.
            DataError: they cannot be read.
        """
        return self.shards.image(self.entries[image_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class _Shards:
    """Of which the last one read stays open."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, ""
        self.opened: Any = None

    def image(self, entry: _Entry) -> ImageCams:
        """
        Raises:
            DataError: the shard does not hold what the index says.
            DataUnavailable: it cannot be read at the moment.
        """
        path = self.folder / entry.shard
        try:
            if entry.shard != self.name:
                self.opened, self.name = safe_open(path, framework="pt"), entry.shard
            maps = [self.opened.get_tensor(f"{entry.id}/{position}") for position in range(len(entry.views))]
        except (OSError, SafetensorError) as error:
            raise unreadable(path, error, f"holds no CAMs of {entry.id} ({error})") from error
        for tensor in maps:
            shape = tuple(tensor.shape)
            if tensor.dtype != torch.float16 or len(shape) != 4 or shape[1] != len(entry.classes) or 0 in shape[2:]:
                raise DataError(
                    f"{path}: the maps of {entry.id} are {tensor.dtype} of shape {shape}; "
                    f"need float16 of shape (maps, {len(entry.classes)}, height, width)"
                )
        views = zip(maps, entry.views, entry.exponents, strict=True)
        return ImageCams(
            entry.id,
            entry.size,
            entry.classes,
            tuple(ScaleMaps(_times_power(tensor, exponents).float(), *view) for tensor, view, exponents in views),
        )


def _halved(maps: Float32[Tensor, "maps present h w"]) -> tuple[Float16[Tensor, "maps present h w"], list[int]]:
    """The maps in fp16, and the power of two that those of each class are to be multiplied by."""
    exponents: list[int] = torch.frexp(maps.abs().amax(dim=(0, 2, 3))).exponent.tolist()
    return _times_power(maps, [-exponent for exponent in exponents]).half(), exponents


def _times_power(maps: Float[Tensor, "m k h w"], exponents: Sequence[int]) -> Float64[Tensor, "m k h w"]:
    return maps.double() * torch.tensor([2.0**exponent for exponent in exponents], dtype=torch.float64)[:, None, None]


@dataclass(frozen=True)
class _Entry:
    """One image of the index."""

    id: str
    shard: str
    size: tuple[int, int]
    classes: tuple[int, ...]
    views: tuple[View, ...]
    exponents: tuple[tuple[int, ...], ...]
    """Of each view one a class."""

    def __post_init__(self) -> None:
        """Ids and shards become paths, sizes become arrays: none may be another than this module writes."""
        if not SAFE_ID.fullmatch(self.id) or ".." in self.id:
            raise ValueError(f"{self.id[:80]!r} is not an image id")
        if not SHARD.fullmatch(self.shard):
            raise ValueError(f"{self.shard[:80]!r} is not the name of a shard, such as {SHARD_NAME.format(0)}")
        if len(self.size) != 2 or min(self.size) < 1 or math.prod(self.size) > MAX_PIXELS:
            raise ValueError(f"{self.id}: need a height and width of at most {MAX_PIXELS} pixels, got {self.size}")
        if list(self.classes) != sorted({c for c in self.classes if 0 <= c < IGNORE - 1}):
            raise ValueError(f"{self.id}: need ascending classes in 0..{IGNORE - 2}, got {self.classes[:20]}")
        covered, sizes, _ = zip(*self.views, strict=True) if self.views else ((), (), ())
        if not covered or not all(
            len(shares) == 2 and all(LEAST_COVERED <= share <= 1 for share in shares) for shares in covered
        ):
            raise ValueError(f"{self.id}: need shares in [{LEAST_COVERED}, 1] of each scale, got {covered[:20]}")
        most = [math.ceil(MAX_SCALE * side) for side in self.size]
        if not all(
            size is None or (len(size) == 2 and all(1 <= side <= top for side, top in zip(size, most, strict=True)))
            for size in sizes
        ):
            raise ValueError(f"{self.id}: need sizes of at most {MAX_SCALE:g} times the image's, got {sizes[:20]}")
        if any(len(each) != len(self.classes) or not all(e in EXPONENTS for e in each) for each in self.exponents):
            raise ValueError(
                f"{self.id}: need an exponent in {EXPONENTS[0]}..{EXPONENTS[-1]} of each class and view, got "
                f"{str(self.exponents)[:80]}"
            )


def _read_index(path: Path) -> Iterator[_Entry]:
    for line in bounded_lines(path):
        try:
            entry = json.loads(line)
            yield _Entry(
                id=_typed(entry["id"], str),
                shard=_typed(entry["shard"], str),
                size=_typed(tuple(_typed(side, int) for side in entry["size"]), tuple),
                classes=tuple(_typed(c, int) for c in entry["classes"]),
                views=tuple(_view(view) for view in entry["views"]),
                exponents=tuple(tuple(_typed(e, int) for e in view["exponents"]) for view in entry["views"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}: is not a CAM index ({type(error).__name__}: {error})") from error


def _view(entry: Mapping[str, Any]) -> View:
    size = entry["size"]
    return (
        _typed(tuple(_typed(share, float) for share in entry["covered"]), tuple),
        None if size is None else _typed(tuple(_typed(side, int) for side in size), tuple),
        _typed(entry["mirrored"], bool),
    )


def _typed(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"need a {kind.__name__}, got {str(value)[:80]!r}")
    return value
