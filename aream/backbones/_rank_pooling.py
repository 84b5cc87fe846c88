"""Global weighted rank pooling (GWRP): the score of a class from its map, higher positions counting more.

Source: Kolesnikov & Lampert, "Seed, Expand and Constrain", ECCV 2016; MCTformer+, Xu et al., arXiv:2308.03005.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rank_pooling(scores: Float[Tensor, "b c h w"], decay: float) -> Float[Tensor, "b c"]:
    """sum_i decay^i s_(i) / sum_i decay^i, s_(0) the highest score of a class's map."""
    ranked = scores.flatten(2).float().sort(dim=-1, descending=True).values
    weights = decay ** torch.arange(ranked.shape[-1], device=scores.device, dtype=ranked.dtype)
    return (ranked * weights).sum(dim=-1) / weights.sum()
