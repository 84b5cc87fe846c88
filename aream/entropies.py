"""Entropies of the CAM that each layer alone refines, which say how spread out it is: AReAM weighs layers by them (Eqs.
7-8).

Source: Cheng et al., arXiv:2305.03112, and the authors' scripts, one for each host.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.affinity import map_entropy, patch_affinity

EntropyMap = Literal["cam", "localised"]
EntropyInput = Literal["raw", "minmax"]
EntropyProb = Literal["softmax", "sum"]


@torch.no_grad()
def entropy_cam(
    backbone: Backbone,
    output: BackboneOutput,
    entropy_map: EntropyMap,
    localised: Float[Tensor, "b c h w"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """The map inside Eq. 7, not normalised.

    ``cam`` is the host's own, as its classifier makes it: of MCTformer's head rectified, of Conformer's as it is
    (authors' code). ``localised`` is the map that labels and CAMs are refined from: on MCTformer its product with the
    class attention, whose values are so small that the softmax of Eq. 7 is next to uniform in every layer.

    Args:
        localised: these, where they are at hand or not the host's own.
    """
    if entropy_map == "cam":
        return output.cam.detach().float()
    return backbone.localise(output) if localised is None else localised


@torch.no_grad()
def layer_entropies(
    backbone: Backbone,
    output: BackboneOutput,
    present: Bool[Tensor, "b c"],
    entropy_input: EntropyInput = "raw",
    entropy_prob: EntropyProb = "softmax",
    entropy_map: EntropyMap = "cam",
    localised: Float[Tensor, "b c h w"] | None = None,
) -> Float[Tensor, " l"]:
    """Entropy in bits of the map of :func:`entropy_cam` refined by each layer alone, averaged over the images.

    Deviates from the authors' script for Conformer, which takes the logarithm of p + 1e-6, and leaves an image whose
    entropy is NaN out of the sum but not out of the number that it divides by: here the logarithm is that of p, as in
    the one for MCTformer, and p = 0 adds nothing.
    """
    t, cam = backbone.prefix_tokens, entropy_cam(backbone, output, entropy_map, localised)
    per_layer = [
        map_entropy(patch_affinity(layer, t), cam, present, entropy_input, entropy_prob) for layer in output.layers
    ]
    return torch.stack(per_layer).mean(dim=1)
