"""Reading MXNet's ``.params`` files: named arrays in a binary layout that has had three forms.

Numbers are little-endian. A file is ``u64 0x112, u64 0, u64 n``, n arrays, ``u64 n``, n names (``u64`` length, bytes).
An array is ``u32`` magic, its shape, ``i32`` device type, ``i32`` device number, ``i32`` type of numbers, the numbers;
the shape is

- V2 (0xF993FAC9): ``i32`` storage type (0: dense), ``u32`` axes, ``i64`` sizes;
- V1 (0xF993FAC8): ``u32`` axes, ``i64`` sizes;
- the oldest form: the magic itself is the number of axes, then ``u32`` sizes.

Source: MXNet's ``NDArray::Save`` and ``Load`` (src/ndarray/ndarray.cc).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from aream.data.files import unreadable
from aream.errors import DataError

_LIST, _V1, _V2 = 0x112, 0xF993FAC8, 0xF993FAC9
_MOST_AXES = 32
_MOST_NAME_BYTES = 4096
_LEAST_ARRAY_BYTES = 20
"""Least bytes of one array: a magic, one size, device and type."""
_NUMBERS = {0: "<f4", 1: "<f8", 2: "<f2"}


def read_params(path: str | Path) -> dict[str, Tensor]:
    """The arrays by their names (``arg:...``, ``aux:...``), as float32.

    Sizes that the file states are compared with the bytes it has before anything of that size is made.

    Raises:
        DataError: no such file, or one that is not laid out like this: cut short, too long, sparse, of whole numbers,
            nameless, of one name twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such weight file")
    try:
        with open(path, "rb") as file:
            return _Reader(file, path).read()
    except OSError as error:
        raise unreadable(path, error) from error


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.left = path.stat().st_size

    def read(self) -> dict[str, Tensor]:
        magic, _ = self._unpack("QQ", "the head")
        if magic != _LIST:
            raise self._wrong(f"not a list of MXNet arrays (it begins with {magic:#x}, not {_LIST:#x})")
        arrays = [self._array(f"array {index + 1}") for index in range(self._count(_LEAST_ARRAY_BYTES, "arrays"))]
        names = [self._name(f"name {index + 1}") for index in range(self._count(8, "names"))]
        if self.left:
            raise self._wrong(f"{self.left} bytes after the last name")
        if len(names) != len(arrays):
            raise self._wrong(f"{len(arrays)} arrays with {len(names)} names")
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._wrong(f"duplicate name {twice!r}")
        return dict(zip(names, arrays, strict=True))

    def _array(self, place: str) -> Tensor:
        shape = self._shape(place)
        _device, _number, kind = self._unpack("iii", place)
        if kind not in _NUMBERS:
            raise self._wrong(f"{place}: numbers of type {kind}; known are 0 (float32), 1 (float64) and 2 (float16)")
        dtype = np.dtype(_NUMBERS[kind])
        content = self._bytes(math.prod(shape) * dtype.itemsize, f"{place} of shape {shape}")
        return torch.from_numpy(np.frombuffer(content, dtype).astype(np.float32).reshape(shape))

    def _shape(self, place: str) -> tuple[int, ...]:
        (magic,) = self._unpack("I", place)
        if magic == _V2:
            (storage,) = self._unpack("i", place)
            if storage != 0:
                raise self._wrong(f"{place}: a sparse array (storage type {storage}); only dense ones can be read")
        axes = self._unpack("I", place)[0] if magic in (_V1, _V2) else magic
        if not 1 <= axes <= _MOST_AXES:
            raise self._wrong(f"{place}: {axes} axes; need 1..{_MOST_AXES}")
        sizes = self._unpack(f"{axes}{'q' if magic in (_V1, _V2) else 'I'}", place)
        if min(sizes) < 1:
            raise self._wrong(f"{place}: shape {tuple(sizes)}; need sizes of 1 and more")
        return tuple(sizes)

    def _name(self, place: str) -> str:
        (length,) = self._unpack("Q", place)
        if not 1 <= length <= _MOST_NAME_BYTES:
            raise self._wrong(f"{place}: {length} bytes long; need 1..{_MOST_NAME_BYTES}")
        try:
            return self._bytes(length, place).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong(f"{place} is no text") from error

    def _count(self, least_bytes: int, what: str) -> int:
        """Read how many follow; no more than there can be in the bytes left."""
        (count,) = self._unpack("Q", f"the number of {what}")
        if not 1 <= count <= self.left // least_bytes:
            raise self._wrong(f"{count} {what} in {self.left} bytes")
        return int(count)

    def _unpack(self, form: str, place: str) -> Sequence[Any]:
        return struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}"), place))

    def _bytes(self, count: int, place: str) -> bytes:
        if count > self.left:
            raise self._wrong(f"{place} needs {count} bytes, {self.left} are left")
        content = self.file.read(count)
        if len(content) != count:
            raise self._wrong(f"{place} is cut short")
        self.left -= count
        return content

    def _wrong(self, problem: str) -> DataError:
        return DataError(f"{self.path}: cannot be read as MXNet parameters: {problem}")
