"""PSA: scores walk between near positions that an AffinityNet, trained on the CAMs before, finds alike.

Source: Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018, with the values
of those who use it since:

    =================  ====  ====  ====================================  =======================================
    source             beta  logt  background                            labels.background_threshold for the same
    =================  ====  ====  ====================================  =======================================
    MCTformer, AReAM   8     6     constant 0.39                         0.39
    PSA                8     8     power, background_alpha 16            0.5
    TransCAM           14    7     constant 0.42                         0.42
    =================  ====  ====  ====================================  =======================================

A walk of class scores is a mean of scores, so a constant background is the same after it: the published constant is
nothing but the threshold on the walked scores, given, or searched as ``labels.background_threshold`` says.

An image of at most 32 rows or 64 columns has no pair of positions that a walk could use: its scores are averaged over
positions of 8 x 8 pixels, as all are, and go nowhere from there.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNet, AffinityNetConfig, affinities
from aream.affinity_net.random_walk import check_walk, random_walk
from aream.affinity_net.targets import AffinityScores
from aream.affinity_net.train import AffinityTraining
from aream.config import config, location
from aream.errors import ConfigError
from aream.networks.checkpoint import weights_fingerprint
from aream.networks.resnet38 import STRIDE

NETWORK = "affinity"
"""The stage ``train_affinity`` trains what the walk needs."""
LEAST_SCORE = 1e-12


@config
class Config:
    beta: float = 8.0
    """Power of the affinities (MCTformer, AReAM, PSA: 8; TransCAM: 14)."""
    logt: int = 6
    """Steps of the walk as a power of two (MCTformer, AReAM: 6; TransCAM: 7; PSA: 8)."""
    background: Literal["constant", "power"] = "constant"
    """What classes stand against. constant: the threshold (MCTformer, AReAM: 0.39; TransCAM: 0.42). power: the walk of
    b = (1 - the largest CAM)^background_alpha; scores s become s / (s + b), so that a threshold of 0.5 is PSA's rule
    and another one weighs the background differently."""
    background_alpha: float = 16.0
    """Exponent of the background ``power`` (PSA: 16)."""
    targets: AffinityScores = AffinityScores()
    """What the network learns from."""
    network: AffinityNetConfig = AffinityNetConfig()
    train: AffinityTraining = AffinityTraining()
    trained: str | None = location(None)
    """File of an AffinityNet that is trained already, such as PSA's ``resnet38_aff.pth``; null: one is trained on the
    CAMs."""

    def __post_init__(self) -> None:
        check_walk(self.beta, self.logt)
        if not 0 < self.background_alpha <= 1000:
            raise ConfigError(f"background_alpha: need a number in (0, 1000], got {self.background_alpha}")


def needs_network(config: Config) -> bool:
    return config.trained is None


def fingerprint(config: Config) -> str:
    """Identity of the weight file: of the trained network, or of what its training starts from."""
    if config.trained is not None:
        return weights_fingerprint(config.trained, "resnet38")
    return affinity_network.fingerprint(config.network)


def check_weights(config: Config) -> None:
    """
    Raises:
        DataError: a weight file that cannot be read or does not fit.
    """
    if config.trained is not None:
        affinity_network.trained(config.network, config.trained)
    elif config.network.weights is not None:
        affinity_network.build(config.network)


def build(config: Config, network: str | None, device: torch.device) -> RandomWalk:
    """The walk with a trained network.

    Args:
        network: file of the weights that ``train_affinity`` kept; None: ``config.trained``.

    Raises:
        ConfigError: there is neither.
        DataError: weights that cannot be read or do not fit.
    """
    path = network or config.trained
    if path is None:
        raise ConfigError("trained: the walk needs the weights of a trained AffinityNet")
    return RandomWalk(config, affinity_network.trained(config.network, path).to(device).eval())


class RandomWalk:
    def __init__(self, config: Config, network: AffinityNet) -> None:
        self.config, self.network = config, network

    @torch.no_grad()
    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 34 p q"]:
        """Affinities between near positions, each 8 x 8 pixels; the images are padded right and below to whole ones.
        They stay where the network is."""
        images = images.to(next(self.network.parameters()).device)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.network.mean, self.network.std))
        return affinities(self.network.features(_padded((images - mean) / std)).float())

    @torch.no_grad()
    def apply(self, kernel: Float[Tensor, "b2 34 p q"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Every score a mean of the scores around it, as near as the walk comes.

        Padding is not of the image and counts for nothing: the walk of the scores is divided by that of the image's
        share of each position. (The published code pads the constant background too, which is the same rule.)
        """
        inside = torch.ones_like(scores[:, :1])
        walked = self._walk(kernel, torch.cat([scores, inside], dim=1).to(kernel.device)).to(scores.device)
        return walked[:, :-1] / walked[:, -1:]

    def refine(self, kernel: Float[Tensor, "b2 34 p q"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """In [0, 1] for scores in [0, 1]; see ``Config.background``."""
        if self.config.background == "constant":
            return self.apply(kernel, scores)
        background = (1 - scores.amax(dim=1, keepdim=True)).clamp(min=0) ** self.config.background_alpha
        walked = self.apply(kernel, torch.cat([background, scores], dim=1))
        return walked[:, 1:] / (walked[:, 1:] + walked[:, :1]).clamp(min=LEAST_SCORE)

    def _walk(self, kernel: Float[Tensor, "b2 34 p q"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Averaged over positions, walked, and back to pixels."""
        height, width = scores.shape[2:]
        pooled = F.avg_pool2d(_padded(scores), STRIDE)
        walked = random_walk(kernel, pooled, beta=self.config.beta, logt=self.config.logt)
        full = F.interpolate(walked, scale_factor=STRIDE, mode="bilinear", align_corners=False)
        return full[:, :, :height, :width]


def _padded(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hp wp"]:
    height, width = maps.shape[2:]
    return F.pad(maps, (0, -width % STRIDE, 0, -height % STRIDE))
