"""A method's own decoder in the place of a segmenter."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import Backbone
from aream.methods.protocol import SegmentingMethod


class DecoderOfMethod:
    """Decoder of a method as a segmenter that predicts; images are resized to whole patches for the host."""

    def __init__(self, method: SegmentingMethod, backbone: Backbone) -> None:
        """
        Args:
            method: with a trained network, on the device of the ``backbone``.
        """
        self.method, self.backbone = method, backbone
        self.mean, self.std = backbone.mean, backbone.std

    def eval(self) -> DecoderOfMethod:
        self.backbone.eval()
        return self

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k height width"]:
        """Logits, background first, at the size of the images."""
        size, patch = tuple(images.shape[2:]), self.backbone.patch_size
        whole = [max(1, round(side / patch)) * patch for side in size]
        logits = self.method.segment(self.backbone, F.interpolate(images, size=whole, mode="bilinear"))
        return F.interpolate(logits, size=size, mode="bilinear")
