"""Dicts of arrays that numpy has pickled into ``.npy`` files, as this field publishes them. Nothing is executed."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

_ALLOWED = {
    (module, name)
    for prefix in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{prefix}.multiarray", "_reconstruct"),
        (f"{prefix}.multiarray", "scalar"),
        (f"{prefix}.numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype")}


class ArraysOnly(pickle.Unpickler):
    """Rebuilds numpy arrays, scalars and builtin containers; any other global is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return _latin1
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of a label file")
        return super().find_class(module, name)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}, which is not part of a label file")
    return text.encode("latin-1")


def pickled_dict(content: bytes, unpickler: type[ArraysOnly] = ArraysOnly) -> Mapping[Any, Any]:
    """The dict of a ``.npy`` file.

    Raises:
        ValueError: it holds something else; at damaged files also what numpy and pickle raise.
        pickle.UnpicklingError: it would run code.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"npy format {version} is not known")
    _, _, dtype = read_header[version](file)
    if not dtype.hasobject:
        raise ValueError("it holds a plain array, not a dict of image ids")
    table = unpickler(file, encoding="latin1").load()
    if isinstance(table, np.ndarray):
        table = table.item()
    if not isinstance(table, dict):
        raise ValueError(f"it holds a {type(table).__name__}, not a dict of image ids")
    return table
