"""MCTformer-V1: a plain ViT with one class token a class; its CAMs are what the class tokens attend to.

Source: Xu et al., "Multi-class Token Transformer for Weakly Supervised Semantic Segmentation", CVPR 2022.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aream.backbones._mctformer import MCTformer
from aream.backbones._mctformer_config import MCTformerConfig
from aream.backbones._mctformer_weights import build_host, shape_of
from aream.backbones._timm_config import fingerprint
from aream.backbones.protocol import BackboneOutput
from aream.cams.precision import without_autocast
from aream.config import config

__all__ = ["Config", "MCTformerV1", "build", "decisions", "fingerprint", "shape"]


@config
class Config(MCTformerConfig):
    class_attention_layers: int | None = 3
    """Number of the last layers that the CAM is taken from (the authors' script: 3 of 12); null: all."""
    class_attention_reduce: Literal["mean", "sum"] = "sum"
    """Sum or mean over those layers (the authors' code: sum)."""


def decisions(config: Config) -> tuple[str, ...]:
    """Names of the settings that may be ``auto``."""
    return ("split_class_tokens",)


class MCTformerV1(MCTformer):
    """No head: the linear one in published files is never used, and dropped."""

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM and the queries and keys of every layer.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The logits are the mean of each class token over its channels (no final norm); the CAM, without gradient, is
        the attention that it pays to the patches, summed over the last layers.
        """
        encoded = self.encode(images)
        with without_autocast(images):  # elsewhere maps are made in float32 too
            attention = self.class_attention(encoded.layers)
        b, _, h, w = encoded.features.shape
        return BackboneOutput(
            logits=(encoded.class_tokens[-1].mean(dim=-1),),
            cams=(attention.reshape(b, self.prefix_tokens, h, w),),
            layers=encoded.layers,
            tokens=encoded.tokens,
        )

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The CAM."""
        return output.cam.float()


shape = functools.partial(shape_of, MCTformerV1)
build = functools.partial(build_host, MCTformerV1)
