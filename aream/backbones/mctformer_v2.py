"""MCTformer-V2: a plain ViT with one class token a class and a convolutional CAM head on its patch tokens.

Source: Xu et al., "Multi-class Token Transformer for Weakly Supervised Semantic Segmentation", CVPR 2022;
as the host of AReAM: Cheng et al., arXiv:2305.03112.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones import _mctformer
from aream.backbones._mctformer import build_host, shape_of
from aream.backbones._patch_head import PatchHeadConfig, PatchHeadHost
from aream.backbones._protocol import BackboneOutput
from aream.config import config


@config
class Config(PatchHeadConfig):
    """The defaults localise as AReAM's authors do, by class attention averaged over all layers.

    Deviates from MCTformer-V2's own evaluation, which sums the last three: ``class_attention_layers: 3,
    class_attention_reduce: sum``. Its refinement sums the patch affinities of all twelve layers, ours takes their mean
    (``inference.layers: all``): the same once the CAM is normalised.
    """


fingerprint = _mctformer.fingerprint


def decisions(config: Config) -> tuple[str, ...]:
    """Names of the settings that may be ``auto``."""
    return ("split_class_tokens", "final_norm")


def shape(config: Config) -> tuple[int, int]:
    """(depth, patch size) without reading weights.

    Raises:
        ConfigError: timm has no such plain ViT, or it has fewer layers than the configuration names.
    """
    return shape_of(MCTformerV2, config)


def build(config: Config, classes: int, image_size: int) -> MCTformerV2:
    """The host with its initial weights.

    Args:
        image_size: training image side in pixels; positions are learnt for this grid when weights are random.

    Raises:
        DataError: the weight file does not fit.
    """
    return build_host(MCTformerV2, config, classes, image_size)


class MCTformerV2(PatchHeadHost):
    """21 749 396 parameters on DeiT-S with 20 classes, as published."""

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM and the queries and keys of every layer.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The CAM is the rectified output of the 3x3 head (Eq. 1), bias kept; logits are the mean of each class
        token over its channels (no final norm) and the global average of the head's map before rectifying.
        """
        encoded = self.encode(images)
        scores = self.scores(encoded.features)
        return BackboneOutput(
            logits=(encoded.class_tokens[-1].mean(dim=-1), scores.mean(dim=(2, 3))),
            cam=F.relu(scores),
            layers=encoded.layers,
        )
