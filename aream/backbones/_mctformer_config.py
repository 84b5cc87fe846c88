"""Configuration of the MCTformer hosts."""

from __future__ import annotations

from typing import Literal

from aream.backbones._timm_config import TimmConfig
from aream.config import config


@config
class MCTformerConfig(TimmConfig):
    vit: str = "deit_small_patch16_224"
    """timm name of a plain ViT (one class token, learnt positions)."""
    class_token_mass: Literal["auto", "split", "copied"] = "auto"
    """Share of the attention that the C class tokens get: ``copied``, each starts with the weights, and takes the
    attention, of the ViT's one (published), so that C copies take up to nine tenths of a layer's attention; ``split``,
    log C is taken off the logits towards them, so that together they take what the one took, and the untrained host
    sees its images as the ViT did. auto: split with the weights of a ViT; copied with random ones, and with a file of
    this host's own layout that does not say otherwise."""
    class_attention_layers: int | None = None
    """Number of the last layers that the class attention is taken from; null: all."""
    class_attention_reduce: Literal["mean", "sum"] = "mean"
    """Sum or mean over those layers. It is a factor of the map: nothing that is normalised at the end depends on it;
    entropies do, of MCTformer-V1, whose CAM it is, and of a map that is ``localised``."""
