"""MCTformer-V2: a plain ViT with one class token a class and a convolutional CAM head on its patch tokens.

Source: Xu et al., "Multi-class Token Transformer for Weakly Supervised Semantic Segmentation", CVPR 2022;
as the host of AReAM: Cheng et al., arXiv:2305.03112.
"""

from __future__ import annotations

import functools

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones._mctformer_weights import build_host, shape_of
from aream.backbones._patch_head import PatchHeadConfig, PatchHeadHost, decisions
from aream.backbones._timm_config import fingerprint
from aream.backbones.protocol import BackboneOutput
from aream.config import config

__all__ = ["Config", "MCTformerV2", "build", "decisions", "fingerprint", "shape"]


@config
class Config(PatchHeadConfig):
    """The defaults localise as AReAM's authors do, by class attention averaged over all layers.

    Deviates from MCTformer-V2's own evaluation, which sums the last three: ``class_attention_layers: 3,
    class_attention_reduce: sum``. Its refinement sums the patch affinities of all twelve layers, ours takes their mean
    (``inference.layers: all``): the same once the CAM is normalised.
    """


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
        scores, tokens = self.scores(encoded)
        return BackboneOutput(
            logits=(encoded.class_tokens[-1].mean(dim=-1), scores.mean(dim=(2, 3))),
            cams=(F.relu(scores),) * 2,
            layers=encoded.layers,
            tokens=tokens,
        )


shape = functools.partial(shape_of, MCTformerV2)
build = functools.partial(build_host, MCTformerV2)
