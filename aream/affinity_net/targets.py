"""Targets of AffinityNet: which near positions show the same class, as far as the CAMs are sure of it.

Source: Ahn and Kwak, PSA, CVPR 2018, section 3.2, and its authors' code. CAMs stand against a background score twice: a
large one (the low alpha), against which only sure foreground wins, and a small one (the high alpha), which only beats
what is surely no object.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aream.affinity_net.pairs import partners_of, sources_of
from aream.config import config
from aream.crf import dense_crf
from aream.crf.dense_crf import Background, DenseCRF, label_probabilities, with_background
from aream.errors import ConfigError
from aream.metrics import BACKGROUND, IGNORE

NO_SCORE = 1e-5
"""A position whose scores are all below this is padding."""
LOG_OFFSET = 1e-5
SHARES = (0.25, 0.25, 0.5)
"""Shares of the loss: pairs of background, pairs of one class, pairs of different classes."""


@config
class AffinityScores:
    scores: Literal["crf", "crf_labels", "plain"] = "crf"
    """Treatment of the scores before they are compared. crf: the posterior of a dense CRF on them (PSA, MCTformer,
    AReAM); crf_labels: of one on the hard labels of their argmax (TransCAM); plain: none, which costs no time."""
    background: Background = "power"
    """Background score: (1 - the largest CAM)^alpha, or a constant (TransCAM, AReAM's alternative)."""
    alpha_low: float = 1.0
    """Exponent against which foreground is sure (MCTformer, AReAM: 1; PSA: 4)."""
    alpha_high: float = 12.0
    """Exponent at which background is sure (MCTformer, AReAM: 12; PSA: 32; its table also has 16)."""
    constant_low: float = 0.60
    """Constant in the place of the low alpha."""
    constant_high: float = 0.25
    """Constant in the place of the high alpha."""
    crf: dense_crf.Config = dense_crf.PSA
    """Settings of that CRF (PSA, MCTformer, AReAM); TransCAM: bilateral_sxy 50, bilateral_srgb 5."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha_low <= self.alpha_high <= 1000:
            raise ConfigError(
                "alpha_low, alpha_high: need 0 < alpha_low <= alpha_high <= 1000, "
                f"got {self.alpha_low} and {self.alpha_high}"
            )
        if not 0 < self.constant_high <= self.constant_low < 1:
            raise ConfigError(
                "constant_low, constant_high: need 0 < constant_high <= constant_low < 1, the low alpha being the "
                f"larger background score, got {self.constant_low} and {self.constant_high}"
            )


def class_scores(
    image: UInt8[Tensor, "3 h w"], cams: Float[Tensor, "k h w"], config: AffinityScores
) -> Float[Tensor, "2 k1 h w"]:
    """Scores in [0, 1] of the background and the k present classes: for the low alpha, then for the high one.

    Args:
        image: RGB.
        cams: in [0, 1].
    """
    alphas = (config.alpha_low, config.alpha_high)
    if config.background == "constant":
        alphas = (config.constant_low, config.constant_high)
    plain = [with_background(cams, alpha, config.background) for alpha in alphas]
    if config.scores == "plain":
        return torch.stack(plain)
    crf = DenseCRF(config.crf)
    kernel = crf.kernel(image)
    if config.scores == "crf_labels":
        plain = [label_probabilities(part.argmax(dim=0), len(part), config.crf.gt_prob) for part in plain]
    return torch.stack([crf.infer(kernel, part) for part in plain])


def position_labels(scores: Float[Tensor, "2 k1 height width"], stride: int) -> Int64[Tensor, "h w"]:
    """Labels of the grid: 0 background, 1..k the channel of the class, 255 where the scores are not sure.

    Scores are averaged over a position's pixels. The label is the winner at the low alpha; the background there is 255,
    except where it wins at the high alpha too: 0. A position without scores, outside of the image, is 255.

    The label is the channel, not the class id: only pairs within an image are ever compared.
    """
    pooled = F.avg_pool2d(scores, stride)
    low, high = pooled.argmax(dim=1)
    labels = torch.where(low == BACKGROUND, IGNORE, low)
    labels = torch.where(high == BACKGROUND, BACKGROUND, labels)
    return labels.masked_fill(pooled.amax(dim=(0, 1)) < NO_SCORE, IGNORE)


def pair_kinds(labels: Int64[Tensor, "b h w"]) -> Bool[Tensor, "b 3 34 p q"]:
    """Return masks of the pairs: both background, both of one class, of two classes; a pair with a 255 is in none."""
    own = sources_of(labels)[:, None]
    near = torch.stack(list(partners_of(labels)), dim=1)
    counted, same = (own != IGNORE) & (near != IGNORE), own == near
    return torch.stack([counted & same & (own == BACKGROUND), counted & same & (own != BACKGROUND), counted & ~same], 1)


def affinity_terms(
    affinities: Float[Tensor, "b 34 p q"],
    kinds: Bool[Tensor, "b 3 34 p q"],
    counts: Int64[Tensor, " 3"] | None = None,
) -> Float[Tensor, " 3"]:
    """Means of -log(a + 1e-5) over pairs of background and of one class, of -log(1 + 1e-5 - a) over the others.

    Args:
        counts: pairs of each kind in the whole batch, where these images are a part of it. A kind without a pair
            contributes exactly 0.
    """
    together, apart = -(affinities + LOG_OFFSET).log(), -(1 + LOG_OFFSET - affinities).log()
    sums = [torch.where(kinds[:, index], value, 0.0).sum() for index, value in enumerate((together, together, apart))]
    counts = kinds.sum(dim=(0, 2, 3, 4)) if counts is None else counts
    return torch.stack(sums) / counts.clamp(min=1).to(affinities.device)


def affinity_loss(terms: Float[Tensor, " 3"]) -> Float[Tensor, ""]:
    """1/4 of the background's term, 1/4 of the classes', 1/2 of the different ones'."""
    return (terms * terms.new_tensor(SHARES)).sum()
