"""Images as MLflow's own ``log_image`` keeps them, so that its image grid holds those of several runs side by side."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from PIL import Image

FOLDER = "images"
"""Of a run's artifacts, where the grid looks for them."""


def write_image(folder: Path, picture: Path, name: str, time_ms: int, run_id: str) -> None:
    """Write a PNG and a small copy under the names that the grid reads; the same arguments give the same names."""
    from mlflow.tracking.multimedia import compress_image_size

    key = name.replace("/", "~")
    own = f"{key}+step+0+timestamp+{time_ms}+{uuid.uuid5(uuid.NAMESPACE_URL, f'{run_id}/{key}')}"
    shutil.copyfile(picture, folder / f"{own}.png")
    with Image.open(picture) as image:
        compress_image_size(image).save(folder / f"{own}+compressed.webp")
