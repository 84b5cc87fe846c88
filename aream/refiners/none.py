"""Scores as they are."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from aream.config import config


@config
class Config:
    """Nothing to configure."""


def build(config: Config) -> Unchanged:
    return Unchanged()


class Unchanged:
    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> None:
        return None

    def apply(self, kernel: None, scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return scores.detach()

    def refine(self, kernel: None, scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return scores.detach()
