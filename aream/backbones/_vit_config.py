"""Configuration of the host of any timm transformer."""

from __future__ import annotations

from typing import Literal

from aream.backbones._timm_config import TimmConfig
from aream.config import added, config, location
from aream.errors import ConfigError


@config
class Config(TimmConfig):
    vit: str = "vit_small_patch16_224"
    """timm name of a transformer with global attention, with or without the tag of its published weights
    (``vit_small_patch14_dinov2.lvd142m``). The tag also says how images are normalised: name it with a weight file too.
    """
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors; timm's layout, an official one that timm reads, such as DeiT's, MAE's, DINO's
    and DINOv2's, or this host's own), ``pretrained`` for timm's hub, ``embedded`` for the small ViT that comes with
    this package (``patch_size: 8, dim: 64, depth: 8, heads: 4``), or null. Positions of another grid than that of the
    training images are resampled."""
    patch_size: int | None = None
    """Pixels a patch side (of a hybrid: positions of its convolutional features), to which the weights' patches are
    resampled (FlexiViT, Beyer et al., CVPR 2023); null: the model's own, as for the next three."""
    head_kernel: Literal[1, 3] = 3
    """Positions a side that the convolution of the CAM head sees."""
    head_bias: bool = added(True)
    """Give the heads a bias a class."""
    rectified: bool = added(True)
    """Rectify the CAM where it is made; false: after it is enlarged, where it is normalised (MoRe)."""
    pooling: Literal["average", "max", "gwrp", "channel_max", "class_token"] = "average"
    """Way from a class's map to its logit; ``gwrp`` ranks the positions (:mod:`aream.backbones._rank_pooling`). Under
    ``channel_max`` the head reads, of every channel of the tokens, the maximum over positions (MoRe); ``head_kernel``
    is then 1. ``class_token``: the head reads the class token instead (ACR, with ``final_norm: false``); so too."""
    rank_decay: float = 0.996
    """Weight of a position's score over that of the next higher one under ``gwrp``, in (0, 1]; 1 is the average."""
    final_norm: bool = True
    """Have the heads read the tokens after the model's last norm; false: as the blocks leave them, like MCTformer."""
    auxiliary_layer: int | None = None
    """0-based layer, before the last, under a second head with a loss of its own; null: none. Its tokens pass the
    model's last norm too, where ``final_norm`` is true."""
    class_tokens: Literal["one", "per_class"] = added("one")
    """The model's own, or a copy of it a class (:mod:`aream.backbones._class_tokens`)."""
    registers: int = added(0)
    """Further copies that stand for no class, at random positions (MoRe: 4), at most 64."""
    class_token_mass: Literal["copied", "split"] = added("copied")
    """Let each copy of the class token be attended to like the one that the weights know (MoRe), or let all of them and
    the registers share its mass, so that a host without registers that has learnt nothing yet is the network of the
    weights, as ``class_token_mass`` of ``mctformer_v2`` has it."""
    localisation: Literal["cam", "fused"] = "cam"
    """The map that the affinities refine: the CAM, or the CAM times what the class token attends to, of one token a
    class its own."""
    class_attention_layers: int | None = None
    """Number of the last layers that the class attention of ``fused`` is taken from; null: all."""
    class_attention_reduce: Literal["mean", "sum"] = "mean"
    """Sum or mean over those layers. It is a factor of the map: nothing that is normalised at the end depends on it;
    entropies of a map that is ``localised`` do."""

    def __post_init__(self) -> None:
        TimmConfig.__post_init__(self)
        if not 0 < self.rank_decay <= 1:
            raise ConfigError(f"rank_decay: need 0 < rank_decay <= 1, got {self.rank_decay}")
        if self.pooling in ("channel_max", "class_token") and self.head_kernel != 1:
            raise ConfigError(f"pooling: {self.pooling} needs head_kernel: 1, got {self.head_kernel}")
        if self.pooling == "class_token" and self.class_tokens != "one":
            raise ConfigError(f"pooling: class_token needs class_tokens: one, got {self.class_tokens}")
        if not 0 <= self.registers <= 64:
            raise ConfigError(f"registers: need a number in 0..64, got {self.registers}")
        if self.class_token_mass == "split" and self.class_tokens == "one" and not self.registers:
            raise ConfigError(
                "class_token_mass: split divides among copies of the class token, and there is one; need copied, or "
                "class_tokens: per_class"
            )
