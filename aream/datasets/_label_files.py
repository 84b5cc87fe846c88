"""Image-level label files as this field publishes them: pickled dicts, plain arrays. None is executed."""

from __future__ import annotations

import io
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from aream.data.files import MAX_BYTES, read_bounded, reason
from aream.data.pickled import pickled_dict
from aream.errors import DataError

Labels = dict[str, Float32[np.ndarray, " c"]]


def find_labels(chosen: str | None, usual: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """The label file that was ``chosen``, else the first of the ``usual`` names in one of ``folders``."""
    if chosen is not None:
        return Path(chosen)
    return next((folder / name for name in usual for folder in folders if (folder / name).is_file()), None)


def read_label_table(path: Path, classes: int, image_id: Callable[[str | int], str]) -> Labels:
    """Labels by image id, from ``.npy`` (a pickled dict, keys text or int, with or without ``.jpg``) or ``.npz``
    (arrays ``ids`` and ``labels``).

    Args:
        classes: that each image has a 0 or 1 for.
        image_id: from a key, which has lost its ``.jpg``.

    Raises:
        DataError: missing, not such a file, one that would run code, or one that says two things of an image.
    """
    try:
        content = read_bounded(path)
        pairs = _arrays(content) if path.suffix == ".npz" else pickled_dict(content).items()
        labels = _labels(pairs, classes, image_id)
    except (
        *(OSError, ValueError, TypeError, LookupError, EOFError, AttributeError, OverflowError, MemoryError),
        *(NotImplementedError, RecursionError, SyntaxError, tokenize.TokenError, struct.error, zlib.error),
    ) as error:  # what numpy, pickle and zipfile raise at damaged files
        raise DataError(f"{path}: not a label file: {reason(error)}") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: refused as a label file: {reason(error)}") from error
    if not labels:
        raise DataError(f"{path}: holds no labels")
    if not any(vector.any() for vector in labels.values()):
        raise DataError(f"{path}: none of its {len(labels)} images has a class")
    return labels


def _labels(pairs: Iterable[tuple[Any, Any]], classes: int, image_id: Callable[[str | int], str]) -> Labels:
    """Raises ``ValueError`` where two entries name one image, such as ``2007_000032.jpg`` and the int 2007000032, and
    differ: neither is known to be the right one."""
    labels: Labels = {}
    named: dict[str, str] = {}
    for number, (key, value) in enumerate(pairs, start=1):
        identifier, vector = image_id(_key(key)), _vector(key, value, classes)
        place = f"entry {number} ({str(key)[:80]!r})"
        if identifier in labels and not np.array_equal(labels[identifier], vector):
            raise ValueError(
                f"{named[identifier]} and {place} both name the image {identifier} and differ: "
                f"{_classes(labels[identifier])}, and {_classes(vector)}"
            )
        labels[identifier] = vector
        named.setdefault(identifier, place)
    return labels


def _classes(vector: Float32[np.ndarray, " c"]) -> str:
    numbers = ", ".join(str(number) for number in vector.nonzero()[0])
    return f"classes {numbers} (from 0)" if numbers else "no class"


def _arrays(content: bytes) -> Iterable[tuple[Any, Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"it unpacks to {size} bytes; at most {MAX_BYTES} are allowed")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        missing = [name for name in ("ids", "labels") if name not in arrays]
        if missing:
            raise ValueError(f"it has no array {' and no array '.join(missing)}; it has {', '.join(arrays) or 'none'}")
        return list(zip(arrays["ids"].tolist(), arrays["labels"], strict=True))


def _key(key: object) -> str | int:
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    if isinstance(key, bytes):
        key = key.decode()
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is neither text nor a number")
    return key.removesuffix(".jpg")


def _vector(key: object, value: object, classes: int) -> Float32[np.ndarray, " c"]:
    # Looked at before it is converted: nested lists that share their parts unfold without end.
    flat = isinstance(value, list | tuple) and all(isinstance(item, int | float | np.number) for item in value)
    found = f"it has a {type(value).__name__}"
    if flat or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf"):
        vector = np.asarray(value).reshape(-1)
        wrong = vector[(vector != 0) & (vector != 1)]
        if len(vector) == classes and not len(wrong):
            return vector.astype(np.float32)
        found = f"it has {len(vector)} numbers" + (f", {wrong[0]:g} among them" if len(wrong) else "")
    raise ValueError(f"the labels of {str(key)[:80]!r} are not {classes} zeros and ones: {found}")
