"""Contract of every dataset, whatever lies on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


@runtime_checkable
class Dataset(Protocol):
    """A multi-label image set with masks for some images. ``build(config)`` of a module here returns one.

    A module may also have ``survey(config, found)``, which goes on where ``build`` raises: it adds to ``found``
    (:class:`aream.data.findings.Findings`) what is wrong with its layout, lists and labels, and returns the dataset
    of what is usable; or raises ``DataError`` where nothing is. What any dataset can be checked for is asked of it
    then (:mod:`aream.data.examination`, whose ``inspect`` gives the content its identity); without a ``survey``, of
    what ``build`` returns.

    It may also have ``left_out``, the image files that it is without, each with the reason (what ``survey`` adds to
    ``found.left_out``); and ``meaning``, bytes that stand in its identity beside ids, labels, images and masks, where
    the code does not say what its classes are called.

    Splits are ``"train"`` (image labels; what CAMs and pseudo-labels are made for) and ``"val"``.
    Instances are cheap to pickle: they hold ids and paths, or a seed, never pixels on their way to a worker.
    """

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the C foreground classes; class k has mask id k + 1."""

    @property
    def scored_classes(self) -> Sequence[int]:
        """Mask ids (0 is background) over which the headline mIoU is averaged; all C + 1 unless chosen."""

    def ids(self, split: str) -> Sequence[str]:
        """Image ids in list order; each is unique and safe as a file name."""

    def image(self, image_id: str) -> Image.Image:
        """The image, mode RGB."""

    def labels(self, image_id: str) -> Float32[np.ndarray, " c"]:
        """Return 1 where a class is present, else 0."""

    def mask(self, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
        """Ground-truth ids 0..C and ``IGNORE``, of the image's size; None where the set has no mask for it."""

    def look_at_image(self, image_id: str) -> tuple[tuple[int, int], bytes]:
        """Width and height, and the sha256 of the image as it is stored, read and decoded to its last byte.

        Raises:
            DataError: naming the file that is missing or does not decode.
        """

    def look_at_mask(self, image_id: str) -> tuple[UInt8[np.ndarray, "h w"], bytes] | None:
        """Return what :meth:`mask` gives, and the sha256 of it as it is stored.

        Raises:
            DataError: naming the file that does not decode, or carries an id out of range.
        """
