"""Graph Category Representation of MoRe: class tokens enriched by the tokens that each attends to most.

Source: Yang et al., "MoRe: Class Patch Attention Needs Regularization for Weakly Supervised Semantic Segmentation",
AAAI 2025, its section on GCR; the authors' code where the paper leaves it open.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GateProduct = Literal["official", "dot"]
"""Product of a neighbour and its gate that is the logit of its weight."""
SHARE = 0.1
"""Share of the neighbourhood, beside a class token as it is."""


class GraphCategoryRepresentation(nn.Module):
    """A directed graph from every class token (head) to its nearest tokens (tails), summed up into the class token.

    Deviates from the authors' code by a layer that it declares and never uses (``_fc1``), which is left out.
    """

    def __init__(self, dim: int, gate_product: GateProduct = "official") -> None:
        """``gate_product`` is ``dot`` for the scalar product of tail and gate, as the paper has it, ``official`` for
        the product of their two sums, which is what the einsum of the authors' code comes to."""
        super().__init__()
        self.gate_product = gate_product
        self.head_proj, self.tail_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.linear1, self.linear2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, class_tokens: Float[Tensor, "b c dim"], patches: Float[Tensor, "b n dim"]
    ) -> Float[Tensor, "b c dim"]:
        """Class tokens after a layer norm; gradients reach the class tokens and none of the patches.

        The tails are class tokens and patches together; each class has the c // 2 of the largest logits for
        neighbours, so that c >= 2 is needed.
        """
        heads = self.head_proj(class_tokens)
        tails = self.tail_proj(torch.cat([class_tokens, patches.detach()], dim=1))
        neighbours, logits = self._neighbours(heads, tails)
        probability = logits.softmax(dim=-1)[..., None]
        heads_apart = heads[:, :, None]
        relation = (1 - probability) * heads_apart + probability * neighbours
        gate = torch.tanh(heads_apart + relation)
        if self.gate_product == "official":
            weight = neighbours.sum(dim=-1) * gate.sum(dim=-1)
        else:
            weight = (neighbours * gate).sum(dim=-1)
        around = (weight.softmax(dim=-1)[..., None] * neighbours).sum(dim=2)
        added = F.leaky_relu(self.linear1(SHARE * (heads + around) + class_tokens))
        multiplied = F.leaky_relu(self.linear2(SHARE * heads * around + class_tokens))
        enriched: Tensor = self.norm(added + multiplied)
        return enriched

    def _neighbours(
        self, heads: Float[Tensor, "b c dim"], tails: Float[Tensor, "b tokens dim"]
    ) -> tuple[Float[Tensor, "b c k dim"], Float[Tensor, "b c k"]]:
        """The k = c // 2 nearest tails of every head, and their logits."""
        b, c, dim = heads.shape
        logits = heads * dim**-0.5 @ tails.transpose(1, 2)
        nearest, index = logits.topk(c // 2, dim=-1)
        picked = tails.gather(1, index.flatten(1)[:, :, None].expand(-1, -1, dim))
        return picked.reshape(b, c, -1, dim), nearest
