"""DeepLab-v3 as torchvision builds it: a dilated encoder, atrous spatial pyramid pooling, bilinear upsampling.

Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017).
"""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation

from aream.config import PRETRAINED, added, config, location
from aream.errors import ConfigError
from aream.networks.checkpoint import check_weights_key, fit_state_dict, read_state_dict, weights_fingerprint

Encoder = Literal["resnet50", "resnet101", "mobilenet_v3_large"]
_MODELS = {
    "resnet50": segmentation.deeplabv3_resnet50,
    "resnet101": segmentation.deeplabv3_resnet101,
    "mobilenet_v3_large": segmentation.deeplabv3_mobilenet_v3_large,
}
_CLASSIFIERS = ("fc.", "classifier.", "aux_classifier.")
"""Names that files of weights hold beside the encoder."""


@config
class Config:
    encoder: Encoder = "resnet50"
    """Features of stride 8 (the ResNets) or 16."""
    weights: str | None = location(None)
    """Weight file of the encoder, with torchvision's names; null for random ones. An ImageNet classifier
    (``resnet50-0676ba61.pth``), or a whole segmenter (``deeplabv3_resnet50_coco-cd0a2569.pth``), of which the encoder
    is taken: that one has seen masks of COCO, so that the result is not weakly supervised any more."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema``; null: the only one,
    else ``model`` or ``state_dict``."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if self.weights == PRETRAINED:
            raise ConfigError("weights: need a file with torchvision's names, or null")


def fingerprint(config: Config) -> str:
    """Identity of the encoder's initial weights."""
    return weights_fingerprint(config.weights, config.encoder)


def build(config: Config, classes: int, image_size: int) -> DeepLabV3:
    """The segmenter with its initial weights, for ``classes`` outputs, background included.

    Raises:
        DataError: weights that do not fit the encoder whole.
    """
    return DeepLabV3(config, classes)


class DeepLabV3(nn.Module):
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        built: Any = _MODELS[config.encoder](weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
        self.backbone: nn.Module = built.backbone
        self.classifier: nn.Module = built.classifier
        if config.weights is not None:
            _load(self.backbone, config.weights, config.weights_key)

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k height width"]:
        """
        Raises:
            ConfigError: one image in training; its pooled branch is one number a channel, which has no variance.
        """
        if self.training and len(images) == 1:
            raise ConfigError(
                "deeplab_v3 learns from two images at a time or more: raise batch_size, or lower crop where memory "
                "holds only one"
            )
        logits = self.classifier(self.backbone(images)["out"])
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.classifier.parameters())


def _load(encoder: nn.Module, path: str, key: str | None) -> None:
    """
    Raises:
        DataError: not a weight file, or not one of this encoder.
    """
    state = read_state_dict(path, key)
    if any(name.startswith("backbone.") for name in state):
        state = {name.removeprefix("backbone."): value for name, value in state.items()}
    elif any(name.startswith("features.") for name in state):  # MobileNet, whose layers the encoder has by number
        state = {name.removeprefix("features."): value for name, value in state.items()}
    fit_state_dict(encoder, state, path, drop=lambda name, value: name.startswith(_CLASSIFIERS))
