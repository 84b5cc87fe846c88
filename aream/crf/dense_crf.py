"""Dense CRF: labels of all pixels coupled by Gaussian kernels of position and colour, by mean-field inference.

Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011;
kernels normalised and unaries clipped as pydensecrf does by default, which the field's numbers were made with.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from aream.config import config
from aream.crf.permutohedral import PermutohedralLattice, weighted_rows
from aream.errors import ConfigError, DataError

LEAST_PROBABILITY = 1e-5
"""Least probability; smaller ones count as this much (pydensecrf's ``unary_from_softmax``)."""
UNSURE = 255
"""The hard label of a pixel about which nothing is said."""
PIXELS_AT_ONCE = 8192
"""Pixels handled at a time on a CPU: what is made of so many stays in its cache."""

Background = Literal["power", "constant"]


@config
class Config:
    """The defaults are what PSA, MCTformer and AReAM make labels with.

    Others that are published: TransCAM's hard labels, ``bilateral_sxy: 50, bilateral_srgb: 5``; the segmenters of
    MCTformer and AReAM at test time, ``gaussian_sxy: 4, bilateral_sxy: 83, bilateral_srgb: 5, bilateral_compat: 3``;
    TransCAM's, ``iterations: 1, bilateral_sxy: 32``.
    """

    iterations: int = 10
    """Iterations of mean field, in 1..1000."""
    gaussian_sxy: float = 3.0
    """Standard deviation of the position kernel, pixels."""
    gaussian_compat: float = 3.0
    """Potts weight of the position kernel; 0 leaves it out."""
    bilateral_sxy: float = 80.0
    """Standard deviation of the position in the colour kernel, pixels."""
    bilateral_srgb: float = 13.0
    """Standard deviation of the colour in the colour kernel, of 255."""
    bilateral_compat: float = 10.0
    """Potts weight of the colour kernel; 0 leaves it out."""
    gt_prob: float = 0.7
    """Probability that a hard label is right; the rest is shared by the other labels."""

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= 1000:
            raise ConfigError(f"iterations: need >= 1 and at most 1000, got {self.iterations}")
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: need a standard deviation > 0, got {value}")
        for name in ("gaussian_compat", "bilateral_compat"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: need a weight >= 0, got {value}")
        if not 0 < self.gt_prob < 1:
            raise ConfigError(f"gt_prob: need a probability in (0, 1), got {self.gt_prob}")


PSA = Config()
"""CRF labels of PSA, MCTformer and AReAM."""


class PairwiseKernel:
    """Coupling of the pixels of one image: sum_k w_k D_k^-1/2 K_k D_k^-1/2 over the position and the colour kernel, D
    the row sums of K, so that neither dense regions nor borders weigh more."""

    def __init__(self, image: Float[Tensor, "3 h w"], config: Config) -> None:
        """``image`` in [0, 255]."""
        self.size = image.shape[1:]
        self.lattices: list[PermutohedralLattice] = []
        self._splat_weights: list[Float[Tensor, " k"]] = []
        corners: list[Int[Tensor, "n k"]] = []
        weights: list[Float[Tensor, "n k"]] = []
        rows = 0
        for features, compat in _features(image, config):
            lattice = PermutohedralLattice(features)
            # A pixel's own weight keeps every row sum positive.
            norm = lattice.filter(features.new_ones(lattice.points, 1)).rsqrt_()
            self.lattices.append(lattice)
            self._splat_weights.append(lattice.member_weights * norm[:, 0].index_select(0, lattice.members))
            corners.append(lattice.corners + rows)
            weights.append(lattice.weights * norm * compat)
            rows += lattice.size
        self._corners = torch.cat(corners, dim=1) if corners else None
        self._weights = torch.cat(weights, dim=1) if weights else None

    def corner_values(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "m c"]:
        """Blurred values on the corners of all lattices, one lattice after the other."""
        return torch.cat(
            [
                lattice.blur(weighted_rows(values, lattice.members, weights, lattice.starts))
                for lattice, weights in zip(self.lattices, self._splat_weights, strict=True)
            ]
        )

    def messages(self, corner_values: Float[Tensor, "m c"], pixels: slice) -> Float[Tensor, "p c"]:
        """Return what the chosen pixels hear from all others."""
        assert self._corners is not None
        assert self._weights is not None
        return weighted_rows(corner_values, self._corners[pixels], self._weights[pixels])


class DenseCRF:
    def __init__(self, config: Config = PSA) -> None:
        self.config = config

    @torch.no_grad()
    def kernel(self, image: Num[Tensor, "3 h w"]) -> PairwiseKernel:
        """Return what depends on the image alone (RGB: integers in 0..255, or floats in [0, 1]), for any number of
        ``infer``.

        Computed in float32, or in float64 for an image of float64.
        """
        scaled = image * 255 if image.is_floating_point() else image
        if image.is_floating_point() and not bool(image.sum().isfinite()):
            raise DataError("dense CRF: the image must be finite, got NaN or infinity")
        return PairwiseKernel(scaled.to(torch.float64 if image.dtype == torch.float64 else torch.float32), self.config)

    def apply(self, image: Num[Tensor, "3 h w"], probabilities: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Posterior class probabilities; each pixel's sum to 1. No gradient.

        Args:
            image: RGB, integers in 0..255 or floats in [0, 1].
            probabilities: >= 0; they need not sum to 1.

        Raises:
            DataError: sizes differ, or a probability is NaN or infinite.
        """
        return self.infer(self.kernel(image), probabilities)

    @torch.no_grad()
    def infer(self, kernel: PairwiseKernel, probabilities: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Return the same as ``apply``, from the kernel of the image."""
        if probabilities.shape[1:] != kernel.size:
            raise DataError(
                f"dense CRF: probabilities of {_pixels(probabilities.shape[1:])} on an image of {_pixels(kernel.size)}"
            )
        if not bool(probabilities.sum().isfinite()):  # one pass; isfinite() on all takes six
            raise DataError("dense CRF: probabilities must be finite, got NaN or infinity")
        dtype = kernel.lattices[0].weights.dtype if kernel.lattices else torch.float32
        logits = probabilities.flatten(1).T.to(dtype, copy=True, memory_format=torch.contiguous_format)
        logits = logits.clamp_(min=LEAST_PROBABILITY).log_()
        posterior = logits.softmax(dim=1)
        if kernel.lattices:
            for _ in range(self.config.iterations):
                _update(posterior, logits, kernel)
        return posterior.T.reshape(probabilities.shape).contiguous()


def _update(posterior: Float[Tensor, "n c"], logits: Float[Tensor, "n c"], kernel: PairwiseKernel) -> None:
    """One mean-field step for the Potts model, in place: softmax(log p + sum_k w_k K_k Q)."""
    values = kernel.corner_values(posterior)
    step = PIXELS_AT_ONCE if posterior.device.type == "cpu" else len(posterior)
    for start in range(0, len(posterior), step):
        pixels = slice(start, start + step)
        heard = kernel.messages(values, pixels).add_(logits[pixels])
        torch.softmax(heard, dim=1, out=posterior[pixels])


def _features(image: Float[Tensor, "3 h w"], config: Config) -> list[tuple[Float[Tensor, "n d"], float]]:
    """Features in standard deviations, and the weight of their kernel."""
    h, w = image.shape[1:]
    rows = torch.arange(h, dtype=image.dtype, device=image.device)
    columns = torch.arange(w, dtype=image.dtype, device=image.device)
    position = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1]).flatten(1)
    color = image.flatten(1) / config.bilateral_srgb
    kernels = [
        (position / config.gaussian_sxy, config.gaussian_compat),
        (torch.cat([position / config.bilateral_sxy, color]), config.bilateral_compat),
    ]
    return [(features.T, compat) for features, compat in kernels if compat > 0]


def _pixels(size: torch.Size) -> str:
    return "x".join(map(str, size))


def label_probabilities(labels: Int[Tensor, "h w"], classes: int, gt_prob: float) -> Float[Tensor, "c h w"]:
    """``gt_prob`` for a pixel's label, the rest shared by the others; uniform where the label is 255.

    Raises:
        DataError: a label out of range.
    """
    known = labels != UNSURE
    wrong = known & ((labels < 0) | (labels >= classes))
    if bool(wrong.any()):
        raise DataError(f"dense CRF: labels must be 0..{classes - 1} or {UNSURE}, got {int(labels[wrong][0])}")
    if classes == 1:
        return torch.ones(1, *labels.shape, device=labels.device)
    hot = F.one_hot(labels.long().masked_fill(~known, 0), classes).permute(2, 0, 1).bool()
    sure = torch.where(hot, gt_prob, (1 - gt_prob) / (classes - 1))
    return torch.where(known, sure, 1 / classes)


def check_alpha(alpha: float, background: Background) -> None:
    """Raises ConfigError where no background score can be made with ``alpha``."""
    if background == "power" and not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"alpha: need an exponent > 0 for the background 'power', got {alpha}")
    if background == "constant" and not 0 < alpha < 1:
        raise ConfigError(f"alpha: need a score in (0, 1) for the background 'constant', got {alpha}")


def with_background(
    cams: Float[Tensor, "k h w"], alpha: float, background: Background = "power"
) -> Float[Tensor, "k1 h w"]:
    """A background score before the CAMs: (1 - max_k CAM)^alpha, or alpha itself (``constant``).

    Args:
        cams: of the classes present, normalised to [0, 1]; none: everything is background.

    Raises:
        ConfigError: an alpha that gives no score.
    """
    check_alpha(alpha, background)
    if background == "constant":
        score = torch.full_like(cams[:1], alpha) if len(cams) else cams.new_ones(1, *cams.shape[1:])
    else:
        strongest = cams.amax(dim=0, keepdim=True) if len(cams) else cams.new_zeros(1, *cams.shape[1:])
        score = (1 - strongest).clamp_(min=0) ** alpha
    return torch.cat([score, cams])
