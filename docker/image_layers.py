"""What is in the layers of an image: their sizes, and whether a string stands anywhere in them."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 24


@dataclass(frozen=True)
class Layer:
    file: Path
    size: int
    """Of what it adds, in bytes, not compressed."""
    command: str
    """Of the Dockerfile, as the image's history has it."""


class SavedImage:
    """An image saved into a folder: one file a layer, and its configuration."""

    def __init__(self, image: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(
            ["podman", "save", "--quiet", "--format", "docker-dir", "--output", folder, image], check=True, timeout=600
        )
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.config_file = folder / manifest["config"]["digest"].removeprefix("sha256:")
        self.config = json.loads(self.config_file.read_text(encoding="utf-8"))
        files = [folder / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
        commands = [entry["created_by"] for entry in self.config["history"] if not entry.get("empty_layer")]
        self.layers = [Layer(file, _size(file), command) for file, command in zip(files, commands, strict=True)]

    def holding(self, text: str) -> list[str]:
        """The command of each layer whose files or file names hold ``text``; `configuration` for the image's own."""
        found = [layer.command for layer in self.layers if _holds(layer.file, text.encode())]
        return found + ["configuration"] * (text in self.config_file.read_text(encoding="utf-8"))


def _size(file: Path) -> int:
    return sum(len(chunk) for chunk in _chunks(file))


def _holds(file: Path, text: bytes) -> bool:
    tail = b""
    for chunk in _chunks(file):
        if text in tail + chunk:
            return True
        tail = chunk[-len(text) :]
    return False


def _chunks(file: Path) -> Iterator[bytes]:
    with _opened(file) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _opened(file: Path) -> BinaryIO | gzip.GzipFile:
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(file) if compressed else file.open("rb")
