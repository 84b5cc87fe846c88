"""timm transformers of many families, small by depth and dimension."""

from __future__ import annotations

import torch

from aream.backbones import vit

FAMILIES = {
    "vit_tiny_patch16_224": {},
    "deit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "deit3_small_patch16_224": {},
    "vit_base_patch16_224.mae": {},
    "vit_small_patch16_224.dino": {},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_small_patch16_dinov3": {},
    "eva02_tiny_patch14_224": {},
    "eva02_base_patch16_clip_224": {},
    "vit_base_patch32_clip_224": {},
    "vit_base_patch32_clip_quickgelu_224": {},
    "vit_base_patch16_siglip_224": {},
    "vit_base_patch16_siglip_gap_224": {},
    "vit_base_patch16_rope_mixed_224": {},
    "vit_pe_core_tiny_patch16_384": {},
    "vit_wee_patch16_reg1_gap_256": {},
    "flexivit_small": {},
    "aimv2_large_patch14_224": {},
    "beit3_base_patch16_224": {},
    "vit_tiny_r_s16_p8_224": {"patch_size": 4},
}
"""Small by depth and dimension; a hybrid's stride, 16, is that of its convolutions and its patches of 4 together."""


def small(name: str, **changes) -> vit.Config:
    return vit.Config(
        **{"vit": name, "depth": 2, "dim": 48, "heads": 3, "drop_path": 0.0, **FAMILIES.get(name, {}), **changes}
    )


def built(config: vit.Config, image_size: int = 224, classes: int = 4) -> vit.TimmTransformer:
    torch.manual_seed(0)
    host = vit.build(config, classes, image_size).eval()
    with torch.no_grad():
        for name, parameter in host.named_parameters():
            if "qkv" in name or "_proj" in name:
                parameter.mul_(10)  # else a small random network attends evenly, whatever its queries and keys
    return host


def images(patch: int, sides: tuple[int, int]) -> torch.Tensor:
    return torch.randn(2, 3, *(side // patch * patch for side in sides), generator=torch.Generator().manual_seed(1))
