"""CAMs as published code writes them: a dict an image, pickled by numpy. None is executed.

PSA and MCTformer have ``{class: map}``, IRN ``{"keys": classes, "high_res": maps, ...}``, AReAM ``{"key": classes,
"cam": maps}``; classes count from 0 and are those of the image's label, maps are of the image's size and in [0, 1].
"""

from __future__ import annotations

import io
import pickle
import struct
import tokenize
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from aream.data.files import read_bounded, reason
from aream.data.pickled import ArraysOnly, pickled_dict
from aream.errors import DataError

LISTED = {"keys": "high_res", "key": "cam"}
"""Where IRN and AReAM have the classes, and where the maps of these."""


@dataclass(frozen=True)
class CamDictionary:
    class_ids: tuple[int, ...]
    """Mask ids of the maps, ascending."""
    maps: Float32[np.ndarray, "k h w"]


class _ArraysAndTensors(ArraysOnly):
    """Tensors too, whose bytes torch reads as weights only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _weights_only
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return super().find_class(module, name)


def _weights_only(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def read_cam_dictionary(path: Path, classes: int, size: tuple[int, int]) -> CamDictionary:
    """The maps of one image; of an image without any class there are none.

    Args:
        classes: foreground classes of the dataset.
        size: height and width of the image.

    Raises:
        DataError: missing, not such a file, one that would run code, of other classes or another size.
    """
    try:
        table = pickled_dict(read_bounded(path), _ArraysAndTensors)
        return _read(table, classes, size)
    except (
        *(OSError, ValueError, TypeError, LookupError, EOFError, AttributeError, OverflowError, MemoryError),
        *(RecursionError, SyntaxError, RuntimeError, tokenize.TokenError, struct.error, zlib.error),
    ) as error:  # what numpy, pickle and torch raise at damaged files
        raise DataError(f"{path}: is no dictionary of CAMs: {reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: refused as a dictionary of CAMs: {reason(error)}") from error


def _read(table: Mapping[Any, Any], classes: int, size: tuple[int, int]) -> CamDictionary:
    pairs = dict(table)
    for of_classes, of_maps in LISTED.items():
        if of_classes not in table:
            continue
        if of_maps not in table:
            raise ValueError(f"need {of_classes} and {of_maps} together, it has {', '.join(map(str, table))}")
        keys, maps = np.asarray(table[of_classes]).reshape(-1), np.asarray(table[of_maps])
        if len(keys) != len(maps):
            raise ValueError(f"it has {len(keys)} {of_classes} and {len(maps)} maps")
        pairs = dict(zip(keys.tolist(), maps, strict=True))
    found: dict[int, Float32[np.ndarray, "h w"]] = {}
    for key, value in pairs.items():
        if not isinstance(key, int | np.integer) or isinstance(key, bool) or not 0 <= key < classes:
            raise ValueError(
                f"the key {str(key)[:80]!r} is no class; need 0..{classes - 1}, or a list under {' or '.join(LISTED)}"
            )
        array = np.asarray(value)
        if array.dtype.kind != "f" or array.shape != size:
            raise ValueError(f"the map of class {key} is {array.dtype} of shape {array.shape}; need numbers of {size}")
        if not np.isfinite(array).all():
            raise ValueError(f"the map of class {key} has a value that is not finite")
        found[int(key)] = array.astype(np.float32)
    ordered = sorted(found)
    maps = np.stack([found[key] for key in ordered]) if ordered else np.zeros((0, *size), dtype=np.float32)
    return CamDictionary(tuple(key + 1 for key in ordered), maps)
