"""A sweep file of a network that is trained in a moment on a few drawn scenes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SIDE, IMAGES = 32, 10
SECTIONS: Mapping[str, Any] = {
    "name": "small",
    "data": {"name": "shapes", "image_size": SIDE, "train_images": IMAGES, "val_images": 4},
    "backbone": {
        "vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 24, "depth": 3, "heads": 2, "initialisation": "mimetic",
    },
    "method": {"name": "aream", "refiner": "none"},
    "train": {
        "epochs": 1, "batch_size": 5, "lr_warmup_epochs": 0, "image_size": SIDE,
        "augmentation": {"rand_augment": None, "erasing": 0.0},
    },
    "inference": {"image_size": SIDE},
    "labels": {"refiner": "none"},
    "axes": {"inference.layers": ["none", "all"]},
}  # fmt: skip


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Write ``NAME.yaml``, which runs under ``folder/runs``; mappings among ``changes`` are laid over the section's
    own, but axes and components of another name, which replace it."""
    sections = {"runs": str(folder / "runs"), **SECTIONS}
    for key, value in changes.items():
        own = sections.get(key)
        both = isinstance(own, Mapping) and isinstance(value, Mapping)
        replaced = not both or key == "axes" or ("name" in value and value["name"] != own.get("name"))
        sections[key] = value if replaced else {**own, **value}
    path = folder / f"{sections['name']}.yaml"
    path.write_text("# Which alpha?\n" + yaml.safe_dump(sections, sort_keys=False))
    return path
