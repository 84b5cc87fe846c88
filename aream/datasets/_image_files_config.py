"""Configuration of the datasets of image and mask files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from aream.config import config, location, setting
from aream.errors import ConfigError
from aream.metrics import LEAST_CLASSES


@config
class ImageFilesConfig:
    CLASSES: ClassVar[int]
    """Foreground classes."""

    root: str = location()
    """The folder that holds the images and their masks."""
    masks: str = "SegmentationClass"
    """Folder of the mask PNGs, under the root or beside the images' folders."""
    train_list: str | None = location(None)
    """List of train ids, a path or a name in one of the folders that lists are looked for in; null: the usual one."""
    val_list: str | None = location(None)
    """List of val ids, likewise."""
    labels_file: str | None = location(None)
    """Image-level labels; null: those that are there."""
    scored_classes: tuple[int, ...] | None = None
    """Mask ids over which the headline mIoU is averaged, 0 is background; null: all."""
    cache: Literal["none", "memory", "device"] | None = setting(None)
    """Where a node keeps decoded images for all that read them: in ``memory``, as many as go into 60% of its Ray's
    object store, which is 30% of its memory; ``device``: there, and those of a training that changes pixels on a GPU
    (``train.augmentation: deit_on_device``) stay on it too; null: in memory if all fit, else ``none``: each is decoded
    at each reading."""

    def __post_init__(self) -> None:
        scored, folder = self.scored_classes, Path(self.masks)
        if scored is not None and (
            len(scored) < LEAST_CLASSES
            or len(set(scored)) != len(scored)
            or not all(0 <= c <= self.CLASSES for c in scored)
        ):
            raise ConfigError(
                f"scored_classes: need {LEAST_CLASSES} or more different mask ids in 0..{self.CLASSES}, "
                f"got {list(scored)}"
            )
        if not folder.parts or folder.is_absolute() or ".." in folder.parts:
            raise ConfigError(f"masks: need the name of a folder under the root, got {self.masks!r}")
