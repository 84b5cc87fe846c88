"""CAMs on disk: float32 maps on the patch grid in safetensors shards, with an index; no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from aream.errors import DataError
from aream.inference import ImageCams, ScaleMaps

IMAGES_A_SHARD = 512


def write_cams(folder: Path, cams: Iterable[ImageCams]) -> int:
    """Write ``index.json`` and ``cams-*.safetensors``; returns the number of images."""
    index = []
    remaining = iter(cams)
    for number, shard in enumerate(iter(lambda: list(islice(remaining, IMAGES_A_SHARD)), [])):
        name = f"cams-{number:05d}.safetensors"
        save_file(
            {
                f"{image.image_id}/{position}": scale.maps.contiguous()
                for image in shard
                for position, scale in enumerate(image.scales)
            },
            folder / name,
        )
        index += [
            {
                "id": image.image_id,
                "shard": name,
                "size": image.size,
                "classes": image.classes,
                "covered": [scale.covered for scale in image.scales],
            }
            for image in shard
        ]
    (folder / "index.json").write_text(json.dumps(index))
    return len(index)


def read_cams(folder: Path) -> Iterator[ImageCams]:
    """The images in the order they were written.

    Raises:
        DataError: the folder holds no CAM index.
    """
    try:
        index = json.loads((folder / "index.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: holds no readable CAM index ({error})") from error
    shard = ""
    for entry in index:
        if entry["shard"] != shard:
            shard = entry["shard"]
            opened = safe_open(folder / shard, framework="pt")
        yield ImageCams(
            entry["id"],
            (entry["size"][0], entry["size"][1]),
            tuple(entry["classes"]),
            tuple(
                ScaleMaps(opened.get_tensor(f"{entry['id']}/{position}"), (covered[0], covered[1]))
                for position, covered in enumerate(entry["covered"])
            ),
        )
