"""AffinityNet: how alike two near positions of an image are, from features of three depths.

Source: Ahn and Kwak, PSA, CVPR 2018, section 3.1, and its authors' code, whose parameter names it has, so that
``resnet38_aff.pth`` loads.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aream.affinity_net.pairs import partners_of, sources_of
from aream.config import added, config, location
from aream.errors import ConfigError
from aream.networks.checkpoint import fit_state_dict, weights_fingerprint
from aream.networks.resnet38 import MEAN, STD, ResNet38
from aream.networks.resnet38_weights import read_resnet38

FROZEN = ("conv1a", "b2", "b2_1", "b2_2")
"""Parts that PSA keeps as they were trained for classification."""
NEW = ("f8_3.weight", "f8_4.weight", "f8_5.weight", "f9.weight")


@config
class AffinityNetConfig:
    """A ResNet-38 with 1x1 convolutions on its features of three depths."""

    width: int = 64
    """Channels of the trunk's first convolution, to which all others are in proportion (published weights: 64)."""
    depths: tuple[int, int, int, int] = (3, 3, 6, 3)
    """Blocks of the trunk's stages 2 to 5 (published weights: 3, 3, 6, 3)."""
    weights: str | None = location(None)
    """File of the trunk's initial weights: a classifier's (``res38_cls.pth``), ImageNet's (MXNet ``.params``), or an
    AffinityNet's (``resnet38_aff.pth``); null for random ones."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema``; null: the only one,
    else ``model`` or ``state_dict``."""
    frozen: bool | None = None
    """Keep the first blocks and all batch norms as they are, as in PSA; null: where there are weights. Random weights
    need batch norms that learn."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 512:
            raise ConfigError(f"width: need a number of channels in 1..512, got {self.width}")
        if not 1 <= min(self.depths) <= max(self.depths) <= 64:
            raise ConfigError(f"depths: need four numbers of blocks in 1..64, got {list(self.depths)}")


def fingerprint(config: AffinityNetConfig) -> str:
    """Identity of the trunk's initial weights."""
    return weights_fingerprint(config.weights, "resnet38")


def build(config: AffinityNetConfig) -> AffinityNet:
    """The network with its initial weights.

    Raises:
        DataError: a weight file that cannot be read or does not fit.
    """
    network = AffinityNet(config)
    if config.weights is not None:
        fit_state_dict(
            network, read_resnet38(config.weights, config.weights_key), config.weights, new=NEW, drop=_unwanted
        )
    return network


def trained(config: AffinityNetConfig, path: str) -> AffinityNet:
    """The network with the weights of a finished training, ours or published.

    Raises:
        DataError: a weight file that cannot be read, or does not hold all of the network.
    """
    network = AffinityNet(config)
    fit_state_dict(network, read_resnet38(path, config.weights_key), path, drop=_unwanted)
    return network


def _unwanted(name: str, value: Tensor) -> bool:
    return name.startswith("fc8.")


class AffinityNet(ResNet38):
    mean, std = MEAN, STD

    def __init__(self, config: AffinityNetConfig) -> None:
        frozen = config.weights is not None if config.frozen is None else config.frozen
        names = [name for name in FROZEN if name == "conv1a" or _depth_of(name) < config.depths[0]]
        super().__init__(
            width=config.width, depths=config.depths, frozen=names if frozen else (), frozen_batch_norm=frozen
        )
        outputs = (config.width, 2 * config.width, 4 * config.width)
        self.f8_3, self.f8_4, self.f8_5 = (
            nn.Conv2d(before, after, 1, bias=False) for before, after in zip(self.channels, outputs, strict=True)
        )
        self.f9 = nn.Conv2d(sum(outputs), sum(outputs), 1, bias=False)
        for layer in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that no trunk has."""
        return [parameter for layer in (self.f8_3, self.f8_4, self.f8_5, self.f9) for parameter in layer.parameters()]

    def features(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k h w"]:
        """Return the features that affinities are distances of, one in 8 x 8 pixels: 448 channels at width 64.

        Args:
            images: normalised with ``mean`` and ``std``.
        """
        trunk = self(images)
        pairs = ((self.f8_3, trunk.conv4), (self.f8_4, trunk.conv5), (self.f8_5, trunk.conv6))
        return F.elu(self.f9(torch.cat([F.elu(layer(part)) for layer, part in pairs], dim=1)))


def affinities(features: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 34 p q"]:
    """Return the affinities of the sources to their 34 partners (:mod:`aream.affinity_net.pairs`): exp of minus the
    mean over channels of |f_i - f_j|, in (0, 1]."""
    distances: Tensor = _MeanDistances.apply(features)
    return (-distances).exp()


class _MeanDistances(torch.autograd.Function):
    """Keeps the features for the backward pass, not the 34 differences: 36 MB instead of 1.2 GB for 8 crops of 448."""

    @staticmethod
    def forward(context: Any, features: Tensor) -> Tensor:
        context.save_for_backward(features)
        own = sources_of(features)
        return torch.stack([(near - own).abs().mean(dim=1) for near in partners_of(features)], dim=1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (features,) = context.saved_tensors
        (gradient,) = gradients
        found = torch.zeros_like(features)
        own, at_sources = sources_of(features), sources_of(found)
        pairs = zip(
            partners_of(features), partners_of(found), (gradient / features.shape[1]).unbind(dim=1), strict=True
        )
        for near, at_partners, share in pairs:
            change = (near - own).sign_().mul_(share[:, None])
            at_partners += change
            at_sources -= change
        return found


def _depth_of(name: str) -> int:
    """Position of a block in its stage."""
    return int(name.partition("_")[2] or 0)
