"""Network of MoRe beside its host: the graph of class tokens, a classifier on a middle layer, and a decoder."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aream.methods._more_decoder import Decoder
from aream.methods._more_gcr import GateProduct, GraphCategoryRepresentation


class MoreNetwork(nn.Module):
    """Parameters of both are new to the task, as those of a host's head are."""

    def __init__(self, dim: int, classes: int, gate_product: GateProduct, decoder_channels: int | None = None) -> None:
        """
        Args:
            decoder_channels: of the decoder that segments; None: there is none.
        """
        super().__init__()
        self.graph = GraphCategoryRepresentation(dim, gate_product)
        self.auxiliary_head = nn.Linear(dim, classes, bias=False)
        self.decoder = None if decoder_channels is None else Decoder(dim, classes, decoder_channels)

    def auxiliary_logits(self, patches: Float[Tensor, "b n dim"]) -> Float[Tensor, "b c"]:
        """Return the second classifier's logits of every channel's maximum over the patches."""
        logits: Tensor = self.auxiliary_head(patches.amax(dim=1))
        return logits

    def auxiliary_map(self, patches: Float[Tensor, "b n dim"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """The classifier at every patch, not rectified."""
        scores: Tensor = self.auxiliary_head(patches)
        return scores.transpose(1, 2).reshape(len(patches), -1, *grid)


def attention_map(
    tokens: Float[Tensor, "b c dim"], patches: Float[Tensor, "b n dim"], grid: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """LAM: the scalar product of every enriched class token and every patch, not rectified."""
    return (tokens @ patches.transpose(1, 2)).reshape(*tokens.shape[:2], *grid)


def full(tensor: Tensor) -> Tensor:
    """Return the tensor in single precision at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
