"""MCTformer hosts with a convolutional CAM head on their patch tokens, and the maps they offer for refinement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aream.backbones._mctformer import Encoded, MCTformer
from aream.backbones._mctformer_config import MCTformerConfig
from aream.backbones.protocol import BackboneOutput
from aream.cams.maps import fuse_class_attention
from aream.config import config

RAW_DEVIATION = 2.0
"""Standard deviation of patch features without the final norm above which a new head does not learn from them: AugReg
ViTs have 3 to 5, random ones 0.4."""


@config
class PatchHeadConfig(MCTformerConfig):
    localisation: Literal["fused", "patchcam", "mct"] = "fused"
    """The map that the affinities refine, by the names of MCTformer's code: class attention times the head's map, the
    head's map alone, or the class attention alone. A method's labels are made from it too, so it is part of training.
    """

    final_norm: Literal["auto"] | bool = "auto"
    """Have the CAM head read patches after the ViT's last norm, or raw (published). auto: after it where the raw
    features of a ViT's weights have a standard deviation above 2 (AugReg's have 5, with values of up to 583). Class
    tokens are averaged raw either way."""


def decisions(config: PatchHeadConfig) -> tuple[str, ...]:
    """Names of the settings that may be ``auto``."""
    return ("split_class_tokens", "final_norm")


class PatchHeadHost(MCTformer):
    def __init__(self, config: PatchHeadConfig, classes: int, image_size: int | None, **of_weights: Any) -> None:
        super().__init__(config, classes, image_size, **of_weights)
        self.localisation, self.normed = config.localisation, config.final_norm is True
        self.head = nn.Conv2d(self.dim, classes, kernel_size=3, padding=1)

    def read(self, features: Float[Tensor, "b dim h w"]) -> Float[Tensor, "b dim h w"]:
        """Raw patch features as the CAM head sees them."""
        return self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.normed else features

    def scores(self, encoded: Encoded) -> tuple[Float[Tensor, "b c h w"], Sequence[Float[Tensor, "b tokens dim"]]]:
        """The CAM head's map, not rectified, and the tokens after every layer, the last patches as they are read."""
        features = self.read(encoded.features)
        last = encoded.tokens[-1]
        if self.normed:
            last = torch.cat([encoded.class_tokens[-1], features.flatten(2).transpose(1, 2)], dim=1)
        return self.head(features), [*encoded.tokens[:-1], last]

    @torch.no_grad()
    def decide(self, config: MCTformerConfig, *, of_a_vit: bool, trained_with: Tensor | None) -> None:
        super().decide(config, of_a_vit=of_a_vit, trained_with=trained_with)
        assert isinstance(config, PatchHeadConfig)
        if config.final_norm != "auto":
            self.normed = config.final_norm
        elif trained_with is not None:
            self.normed = bool(trained_with[1])
        else:
            self.normed = of_a_vit and self._raw_deviation() > RAW_DEVIATION

    def _raw_deviation(self) -> float:
        """Standard deviation of the raw patch features of a fixed image."""
        training = self.training
        self.eval()
        rows, columns = (side * self.patch_size for side in self.position_grid)
        y, x = torch.linspace(0, 3 * math.pi, rows), torch.linspace(0, 5 * math.pi, columns)
        waves = torch.sin(y)[:, None] * torch.cos(x)[None]
        deviation = self.encode(waves.expand(1, 3, rows, columns).contiguous()).features.std().item()
        self.train(training)
        return deviation

    def decisions(self) -> dict[str, float]:
        return {**super().decisions(), "final_norm": float(self.normed)}

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.split_mass, self.normed])

    def set_extra_state(self, state: Tensor) -> None:
        super().set_extra_state(state)
        self.normed = bool(state[1])

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
