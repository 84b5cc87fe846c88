"""MCTformer hosts with a convolutional CAM head on their patch tokens, and the maps they offer for refinement."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aream.backbones._mctformer import MCTformer, MCTformerConfig
from aream.backbones._protocol import BackboneOutput
from aream.cam import fuse_class_attention
from aream.config import config


@config
class PatchHeadConfig(MCTformerConfig):
    localisation: Literal["fused", "patchcam", "mct"] = "fused"
    """The map that the affinities refine, by the names of MCTformer's code: class attention times the head's map, the
    head's map alone, or the class attention alone. A method's labels are made from it too, so it is part of training.
    """


class PatchHeadHost(MCTformer):
    def __init__(
        self, config: PatchHeadConfig, classes: int, image_size: int | None, *, pretrained: bool = False
    ) -> None:
        super().__init__(config, classes, image_size, pretrained=pretrained)
        self.localisation = config.localisation
        self.head = nn.Conv2d(self.dim, classes, kernel_size=3, padding=1)

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The configured map, >= 0."""
        cam = output.cam.detach().float()
        if self.localisation == "patchcam":
            return cam
        attention = self.class_attention(output.layers)
        return attention.reshape(cam.shape) if self.localisation == "mct" else fuse_class_attention(cam, attention)

    def head_parameters(self) -> list[nn.Parameter]:
        """The CAM head and the class tokens: pretrained weights know neither."""
        return [*self.head.parameters(), *super().head_parameters()]
