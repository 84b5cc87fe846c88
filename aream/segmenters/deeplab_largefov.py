"""DeepLab-LargeFOV on ResNet-38, in the two forms that published figures of the field were made with.

Source: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs" (DeepLab-v1),
on the trunk of Wu et al.; heads of the ``seg/`` step of MCTformer and AReAM and of the ``deeplab/`` step of TransCAM.

==============================  =========================================================================
``segmentation`` of the sweep   MCTformer, AReAM
==============================  =========================================================================
model                           head mctformer, weights res38_cls.pth (PSA's classifier, trained on VOC)
train                           batch_size 4, epochs 30, lr 7e-4, head_lr_scale 10, momentum 1e-5, weight_decay 0,
                                crop 321, scale [0.7, 1.3], scale_per batch
evaluate                        scales [0.5, 0.75, 1.0, 1.25, 1.5], flip false, merge max_softmax, crf {gaussian_sxy 4,
                                bilateral_sxy 83, bilateral_srgb 5, bilateral_compat 3}
==============================  =========================================================================

==============================  =========================================================================
``segmentation`` of the sweep   TransCAM
==============================  =========================================================================
model                           head transcam, weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params (ImageNet), frozen [],
                                frozen_batch_norm false, batch_norm_momentum 0.0003
train                           batch_size 10, iterations 20000, lr 1e-3, head_lr_scale 10, bias_lr_scale 2,
                                decay_biases false, momentum 0.9, weight_decay 5e-4, crop 448, scale [0.5, 1.5],
                                hsv_jitter 10
evaluate                        scales [0.5, 0.75, 1.0, 1.25, 1.5, 1.75], flip true, merge mean_logits,
                                crf {iterations 1, bilateral_sxy 32}
==============================  =========================================================================
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aream.config import PRETRAINED, added, config, location
from aream.errors import ConfigError
from aream.networks.checkpoint import check_weights_key, weights_fingerprint
from aream.networks.resnet38 import DEPTHS, MEAN, STD, WIDTH, ResNet38
from aream.networks.resnet38_weights import load_resnet38

Head = Literal["mctformer", "transcam"]


@config
class Config:
    weights: str | None = location(None)
    """File of the trunk's weights: MXNet's ``.params``, or PyTorch's with PSA's names; null for random ones."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema``; null: the only one,
    else ``model`` or ``state_dict``."""
    head: Head = "mctformer"
    """mctformer: a dilated 3x3 convolution to ``channels``, ReLU, a dilated 3x3 convolution to the classes (MCTformer,
    AReAM). transcam: the first with batch norm, then a 1x1 convolution to ``channels`` with batch norm and ReLU,
    dropout, a 1x1 convolution to the classes; logits are enlarged with their corners on the image's (TransCAM)."""
    rate: int = 12
    """Dilation of the 3x3 convolutions of the head; 12 is LargeFOV."""
    channels: int = 512
    """Channels inside the head."""
    dropout: float = 0.5
    """Dropout rate before the classifier of the transcam head; the mctformer head has none."""
    frozen: tuple[str, ...] = ("conv1a",)
    """Modules of the trunk that do not learn (MCTformer, AReAM: conv1a; PSA's own networks: conv1a, b2, b2_1, b2_2;
    TransCAM: none, since its script never calls the method that freezes them)."""
    frozen_batch_norm: bool | None = None
    """Keep the statistics and parameters of the trunk's batch norm (MCTformer, AReAM: yes; TransCAM: no); null: where
    there are weights, since random ones need statistics of their own."""
    batch_norm_momentum: float = 0.1
    """Share of a new batch in the running statistics that are not frozen (TransCAM: 0.0003, which takes thousands of
    steps to forget where it began)."""
    width: int = WIDTH
    """Channels of the trunk's first convolution; published weights: 64."""
    depths: tuple[int, ...] = DEPTHS
    """Blocks of the trunk's stages 2 to 5; published weights: 3, 3, 6, 3."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if self.weights == PRETRAINED:
            raise ConfigError("weights: timm has none of ResNet-38; need a file, or null")
        if not 1 <= self.rate <= 512:
            raise ConfigError(f"rate: need a dilation in 1..512, got {self.rate}")
        if not 1 <= self.channels <= 4096:
            raise ConfigError(f"channels: need a number in 1..4096, got {self.channels}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout: need 0 <= dropout < 1, got {self.dropout}")
        if not 0 < self.batch_norm_momentum <= 1:
            raise ConfigError(f"batch_norm_momentum: need a share in (0, 1], got {self.batch_norm_momentum}")


def fingerprint(config: Config) -> str:
    """Identity of the trunk's initial weights."""
    return weights_fingerprint(config.weights, "resnet38")


def build(config: Config, classes: int, image_size: int) -> LargeFOV:
    """The segmenter with its initial weights, for ``classes`` outputs, background included.

    Raises:
        ConfigError: no such trunk.
        DataError: weights that do not fit it whole.
    """
    return LargeFOV(config, classes)


class LargeFOV(nn.Module):
    """Features of stride 8; a logit sees features within ``rate`` (transcam) or 2 * ``rate`` (mctformer) of it.

    Deviates from TransCAM: batch norm of the head learns its scale and shift, which its optimizer is not given.
    """

    mean, std = MEAN, STD

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        frozen = config.weights is not None if config.frozen_batch_norm is None else config.frozen_batch_norm
        self.trunk = ResNet38(width=config.width, depths=config.depths, frozen=config.frozen, frozen_batch_norm=frozen)
        channels = self.trunk.channels[-1]
        self.head = _HEADS[config.head](config, channels, classes)
        self.corners_aligned = config.head == "transcam"
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.batch_norm_momentum
        if config.weights is not None:
            load_resnet38(self.trunk, config.weights, config.weights_key)

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k height width"]:
        logits = self.head(self.trunk(images).conv6)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=self.corners_aligned)

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


def _mctformer_head(config: Config, channels: int, classes: int) -> nn.Sequential:
    first = _dilated(channels, config.channels, config.rate)
    last = _dilated(config.channels, classes, config.rate)
    for convolution in (first, last):
        nn.init.xavier_uniform_(convolution.weight)
    return nn.Sequential(first, nn.ReLU(inplace=True), last)


def _transcam_head(config: Config, channels: int, classes: int) -> nn.Sequential:
    head = nn.Sequential(
        _dilated(channels, config.channels, config.rate, bias=False),
        nn.BatchNorm2d(config.channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(config.channels, config.channels, 1, bias=False),
        nn.BatchNorm2d(config.channels),
        nn.ReLU(inplace=True),
        nn.Dropout(config.dropout),
        nn.Conv2d(config.channels, classes, 1),
    )
    for module in head:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return head


def _dilated(before: int, after: int, rate: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=rate, dilation=rate, bias=bias)


_HEADS = {"mctformer": _mctformer_head, "transcam": _transcam_head}
