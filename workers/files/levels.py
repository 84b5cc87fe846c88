"""Level maps of a split, in a file without a name, from when they are counted until a threshold is chosen."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

from aream.labels.pseudo_labels import LevelMap

HEAD = struct.Struct("<4I")
"""Bytes of the id, height, width, bytes of the compressed map."""


class LevelFile:
    """In no order but that of writing, so that memory holds none of them; gone with its process."""

    def __init__(self, folder: Path) -> None:
        """``folder`` lies where there is room for some 100 KB an image."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def append(self, image_id: str, level_map: LevelMap) -> None:
        both = torch.stack([level_map.classes, level_map.levels]).cpu().numpy()
        name, content = image_id.encode(), zlib.compress(both.tobytes(), level=1)
        self._file.write(HEAD.pack(len(name), *both.shape[1:], len(content)) + name + content)

    def __iter__(self) -> Iterator[tuple[str, LevelMap]]:
        """Image ids with their maps, from the first; to be read by one reader at a time."""
        self._file.seek(0)
        while head := self._file.read(HEAD.size):
            letters, height, width, size = HEAD.unpack(head)
            image_id = self._file.read(letters).decode()
            both = torch.frombuffer(bytearray(zlib.decompress(self._file.read(size))), dtype=torch.uint8)
            yield image_id, LevelMap(*both.reshape(2, height, width))

    def close(self) -> None:
        self._file.close()
