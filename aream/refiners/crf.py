"""Dense CRF: a background score joins the CAMs, and pixels near each other and of like colour agree on one class.

Sources: Krähenbühl and Koltun, NIPS 2011; CRF labels of PSA (Ahn and Kwak, CVPR 2018), MCTformer, AReAM and TransCAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aream.config import config
from aream.crf import dense_crf
from aream.crf.dense_crf import Background, DenseCRF, PairwiseKernel, check_alpha, label_probabilities, with_background
from aream.errors import ConfigError


@config
class Config(dense_crf.Config):
    """Standard deviations are in pixels of the images that are refined (half size where a method makes its labels)."""

    background: Background = "power"
    """Background score before the CRF: (1 - max_c CAM)^alpha (PSA), or ``alpha`` everywhere (``constant``)."""
    alpha: float = 4.0
    """With ``power``: 4, 8, 16 or 32 (PSA), 1 or 12 (MCTformer, AReAM); less means more background. With ``constant``:
    0.25 or 0.60 (AReAM, TransCAM)."""
    unary: Literal["scores", "labels"] = "scores"
    """What the CRF starts from: the scores, or the label of the highest one, right with ``gt_prob`` (TransCAM)."""
    classes: int = 21
    """With ``labels``: background and all classes, over which the rest of ``gt_prob`` is spread."""

    def __post_init__(self) -> None:
        dense_crf.Config.__post_init__(self)
        check_alpha(self.alpha, self.background)
        if self.classes < 2:
            raise ConfigError(f"classes: need the background and at least one class, got {self.classes}")


def build(config: Config) -> CRF:
    return CRF(config)


class CRF:
    """Channels compete: ``apply`` returns posteriors that sum to 1 at every pixel.

    A channel without any positive score is an absent class: it takes no part and stays 0, so that an image gives the
    same in any batch.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.crf = DenseCRF(config)

    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> list[PairwiseKernel]:
        return [self.crf.kernel(image) for image in images]

    @torch.no_grad()
    def apply(self, kernel: Sequence[PairwiseKernel], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Posteriors of one distribution a pixel, such as a softmax over background and classes."""
        refined = torch.zeros_like(scores)
        for each, maps, out in zip(kernel, scores, refined, strict=True):
            shown = maps.flatten(1).amax(dim=1) > 0
            if bool(shown.any()):
                out[shown] = self._posterior(each, maps[shown]).to(out)
        return refined

    @torch.no_grad()
    def refine(self, kernel: Sequence[PairwiseKernel], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Posteriors of the foreground classes, given their CAMs in [0, 1].

        The background, by ``background`` and ``alpha``, has competed and is what is missing to 1. So a threshold of 0.5
        is the CRF's own decision where one class is present. Posteriors lie near 0 and 1, and a search over thresholds
        moves the labels little: how much becomes background is ``alpha``'s to say.
        """
        refined = torch.zeros_like(scores)
        for each, maps, out in zip(kernel, scores, refined, strict=True):
            shown = maps.flatten(1).amax(dim=1) > 0
            if bool(shown.any()):
                stack = with_background(maps[shown], self.config.alpha, self.config.background)
                out[shown] = self._posterior(each, stack)[1:].to(out)
        return refined

    def _posterior(self, kernel: PairwiseKernel, stack: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        if self.config.unary == "scores":
            return self.crf.infer(kernel, stack)
        winners = stack.max(dim=0).indices
        probabilities = label_probabilities(winners, max(self.config.classes, len(stack)), self.config.gt_prob)
        return self.crf.infer(kernel, probabilities)[: len(stack)]
