"""What can be set of the host :mod:`aream.backbones.vit`."""

from __future__ import annotations

from typing import Literal

from aream.backbones._checkpoint import check_weights_key
from aream.backbones._sizes import check_sizes
from aream.config import added, config, location
from aream.errors import ConfigError


@config
class Config:
    vit: str = "vit_small_patch16_224"
    """timm name of a transformer with global attention, with or without the tag of its published weights
    (``vit_small_patch14_dinov2.lvd142m``). The tag also says how images are normalised: name it with a weight file too.
    """
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors; timm's layout, an official one that timm reads, such as DeiT's, MAE's, DINO's
    and DINOv2's, or this host's own), ``pretrained`` for timm's hub, ``embedded`` for the small ViT that comes with
    this package (``patch_size: 8, dim: 64, depth: 8, heads: 4``), or null. Positions of another grid than that of the
    training images are resampled."""
    weights_key: str | None = added(None)
    """Which state dict of a weight file that holds several, such as ``model_ema`` or ``teacher``; null: the only one,
    else ``model`` or ``state_dict``."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block, in [0, 1)."""
    normalisation: Literal["imagenet", "half"] | None = None
    """``imagenet`` or ``half`` (mean = std = 0.5); null: what timm says the model expects."""
    initialisation: Literal["timm", "mimetic"] = "timm"
    """Of random weights: timm's, or attention that starts out local and alike-to-alike, for small data."""
    patch_size: int | None = None
    """Pixels a patch side (of a hybrid: positions of its convolutional features), to which the weights' patches are
    resampled (FlexiViT, Beyer et al., CVPR 2023); null: the model's own, as for the next three."""
    dim: int | None = None
    """Token dimension."""
    depth: int | None = None
    """Transformer layers."""
    heads: int | None = None
    """Attention heads."""
    head_kernel: Literal[1, 3] = 3
    """Positions a side that the convolution of the CAM head sees."""
    pooling: Literal["average", "max", "gwrp"] = "average"
    """How a class's map becomes its logit; ``gwrp`` ranks the positions (:mod:`aream.backbones._rank_pooling`)."""
    rank_decay: float = 0.996
    """Of ``gwrp``: weight of a position's score over that of the next higher one, in (0, 1]; 1 is the average."""
    final_norm: bool = True
    """Whether heads read the tokens after the model's last norm; false: as the blocks leave them, like MCTformer."""
    auxiliary_layer: int | None = None
    """0-based layer, before the last, under a second head with a loss of its own; null: none. Its tokens pass the
    model's last norm too, where ``final_norm`` is true."""
    localisation: Literal["cam", "fused"] = "cam"
    """The map that the affinities refine: the CAM, or the CAM times what the class token attends to."""
    class_attention_layers: int | None = None
    """Of ``fused``: how many of the last layers the class attention is taken from; null: all."""
    class_attention_reduce: Literal["mean", "sum"] = "mean"
    """Over those layers. A factor of the map: nothing that is normalised at the end depends on it; entropies of a map
    that is ``localised`` do."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path: need 0 <= drop_path < 1, got {self.drop_path}")
        if not 0 < self.rank_decay <= 1:
            raise ConfigError(f"rank_decay: need 0 < rank_decay <= 1, got {self.rank_decay}")
        check_sizes(self)
