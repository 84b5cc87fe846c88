"""ResNet-38, model A1: the wide and shallow trunk of AffinityNet and of the segmenters that published figures stand on.

Source: Wu, Shen and van den Hengel, "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition" (2016), in
the form that PSA (Ahn and Kwak, 2018) gives it, whose parameter names it has: ``conv1a``, ``b2``, ``b2_1`` ... ``b7``,
``bn7``. Blocks normalise and rectify before each convolution; strides end at 8 pixels, dilation takes over from there.

Deviates from PSA: what is frozen is an argument. There batch norm always is, and in AffinityNet and the classifier
also ``b2``, ``b2_1`` and ``b2_2``; in the segmenters only ``conv1a``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aream.errors import ConfigError

STRIDE = 8
"""Pixels a feature; an image of n pixels a side has ceil(n / 8) of them."""
WIDTH = 64
DEPTHS = (3, 3, 6, 3)
"""Blocks of the stages 2 to 5; the stages 6 and 7 are one bottleneck each."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the RGB input in [0, 1] that published weights expect."""


@dataclass(frozen=True)
class TrunkFeatures:
    """Normalised and rectified features, all of stride 8; channels are those of the width 64."""

    conv4: Float[Tensor, "b c4 h w"]
    """Features after stage 4, as stage 5 reads them: 512 channels."""
    conv5: Float[Tensor, "b c5 h w"]
    """Features after stage 5, as stage 6 reads them: 1024 channels."""
    conv6: Float[Tensor, "b c6 h w"]
    """Features after stage 7 and ``bn7``: 4096 channels."""


class ResNet38(nn.Module):
    """Offers ``channels``, those of ``TrunkFeatures``."""

    def __init__(
        self,
        *,
        width: int = WIDTH,
        depths: Sequence[int] = DEPTHS,
        frozen: Sequence[str] = ("conv1a",),
        frozen_batch_norm: bool = True,
    ) -> None:
        """
        Args:
            width: channels of the first convolution; all others are multiples of it (published weights: 64).
            depths: blocks of the stages 2 to 5 (published weights: 3, 3, 6, 3).
            frozen: modules, by their names, whose parameters do not learn.
            frozen_batch_norm: whether batch norm keeps its statistics and parameters in training, as PSA does; a
                network that starts from random weights needs False.

        Raises:
            ConfigError: no such width or depth, or a frozen module that there is not.
        """
        super().__init__()
        if not 1 <= width <= 512:
            raise ConfigError(f"width: need a number of channels in 1..512, got {width}")
        if len(depths) != 4 or not all(1 <= depth <= 64 for depth in depths):
            raise ConfigError(f"depths: need four numbers of blocks in 1..64, got {list(depths)}")
        self.frozen_batch_norm = frozen_batch_norm
        self.channels = (8 * width, 16 * width, 64 * width)
        self.conv1a = nn.Conv2d(3, width, 3, padding=1, bias=False)
        before = width
        for stage, depth in zip((2, 3, 4), depths[:3], strict=True):
            after = width * 2 ** (stage - 1)
            self._add_stage(stage, depth, before, after, after, stride=2)
            before = after
        self._add_stage(5, depths[3], before, before, 2 * before, dilation=2)
        self.b6 = Bottleneck(16 * width, 32 * width, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(32 * width, 64 * width, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(64 * width)
        self._freeze(frozen)

    def _add_stage(
        self, stage: int, depth: int, before: int, middle: int, after: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        """Only the first block changes stride and channels; its first convolution is not dilated yet."""
        self.add_module(f"b{stage}", Block(before, middle, after, stride=stride, dilations=(1, dilation)))
        for index in range(1, depth):
            self.add_module(f"b{stage}_{index}", Block(after, middle, after, dilations=(dilation, dilation)))

    def _freeze(self, frozen: Sequence[str]) -> None:
        known = dict(self.named_children())
        unknown = [name for name in frozen if name not in known]
        if unknown:
            raise ConfigError(f"frozen: there is no module {', '.join(unknown)}; there are {', '.join(known)}")
        still = [known[name] for name in frozen] + (self._batch_norms() if self.frozen_batch_norm else [])
        for module in still:
            module.requires_grad_(False)

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> ResNet38:
        super().train(mode)
        if self.frozen_batch_norm:
            for module in self._batch_norms():
                module.eval()
        return self

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> TrunkFeatures:
        """Return the features of images normalised with ``MEAN`` and ``STD``."""
        x = self.conv1a(images)
        read: dict[str, Tensor] = {}
        for name, block in self.named_children():
            if isinstance(block, Block | Bottleneck):
                read[name] = block.rectified(x)
                x = block(x, read[name])
        return TrunkFeatures(read["b5"], read["b6"], F.relu(self.bn7(x)))


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(
        self, before: int, middle: int, after: int, *, stride: int = 1, dilations: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        first, second = dilations
        self.bn_branch2a = nn.BatchNorm2d(before)
        self.conv_branch2a = nn.Conv2d(before, middle, 3, stride, padding=first, dilation=first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = nn.Conv2d(middle, after, 3, padding=second, dilation=second, bias=False)
        self.conv_branch1 = None
        if before != after or stride != 1:
            self.conv_branch1 = nn.Conv2d(before, after, 1, stride, bias=False)

    def rectified(self, x: Tensor) -> Tensor:
        """Return what the convolutions of the block read."""
        return F.relu(self.bn_branch2a(x))

    def forward(self, x: Tensor, rectified: Tensor) -> Tensor:
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(rectified)
        branch: Tensor = self.conv_branch2a(rectified)
        return shortcut + self.conv_branch2b1(F.relu(self.bn_branch2b1(branch)))


class Bottleneck(nn.Module):
    """1x1 to a quarter of the channels, dilated 3x3 to a half, 1x1 to all; whole channels are dropped between."""

    def __init__(self, before: int, after: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        quarter, half = after // 4, after // 2
        self.bn_branch2a = nn.BatchNorm2d(before)
        self.conv_branch2a = nn.Conv2d(before, quarter, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(quarter)
        self.conv_branch2b1 = nn.Conv2d(quarter, half, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(half)
        self.conv_branch2b2 = nn.Conv2d(half, after, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(before, after, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def rectified(self, x: Tensor) -> Tensor:
        """Return what the convolutions of the block read."""
        return F.relu(self.bn_branch2a(x))

    def forward(self, x: Tensor, rectified: Tensor) -> Tensor:
        branch = self.conv_branch2a(rectified)
        branch = self.conv_branch2b1(self.dropout(F.relu(self.bn_branch2b1(branch))))
        branch = self.conv_branch2b2(self.dropout(F.relu(self.bn_branch2b2(branch))))
        shortcut: Tensor = self.conv_branch1(rectified)
        return shortcut + branch
