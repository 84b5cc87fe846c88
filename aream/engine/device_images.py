"""Images that stay on the device of a network from when they are first brought there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from jaxtyping import UInt8
from torch import Tensor

log = logging.getLogger(__name__)

SHARE = 0.5
"""Of the memory that a training leaves in its first step, for images; later steps may take more."""


class DeviceImages:
    """Decoded images of one training. They are let go where a step has no memory."""

    def __init__(self, left: Callable[[], int]) -> None:
        """``left``: bytes of the device's memory that this process may still take, beside the most it has taken."""
        self.left = left
        self.images: dict[str, UInt8[Tensor, "h w 3"]] = {}
        self.batches, self.bytes, self.room = 0, 0, 0

    def size(self, image_id: str) -> tuple[int, int] | None:
        """Width and height of an image that is here."""
        image = self.images.get(image_id)
        return None if image is None else (image.shape[1], image.shape[0])

    def offer(self, images: Mapping[str, UInt8[Tensor, "h w 3"]], held: int) -> None:
        """Keep a batch's new images, which hold so many bytes together; those of the first batch are not: only when
        its step is done is it known what a step takes."""
        self.batches += 1
        if self.batches == 1 or not images:
            return
        if self.batches == 2:
            self.room = int(SHARE * max(0, self.left()))
        if self.bytes + held <= self.room:
            self.images |= images
            self.bytes += held

    def let_go(self) -> bool:
        """Give their memory to the network for good; False: there were none."""
        held, self.room, self.bytes = self.bytes, 0, 0
        self.images.clear()
        if held:
            log.info("%d MiB of images leave the device: a step needs the memory", held >> 20)
        return held > 0
