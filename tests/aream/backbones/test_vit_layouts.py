"""Weight files of transformers in the layouts that their authors published."""

from __future__ import annotations

import re

import pytest
import torch
from small_transformers import small
from timm import create_model
from timm.layers import resample_abs_pos_embed

from aream.backbones import vit
from aream.errors import ConfigError, DataError


def timms(name: str, **changes):
    torch.manual_seed(5)
    model = create_model(name, depth=2, embed_dim=48, num_heads=3, **{"img_size": 224, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def without_head(model) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}


def masked_autoencoder(state):
    rest = {"mask_token": torch.zeros(1, 1, 32), "decoder_embed.weight": torch.zeros(32, 48)}
    return {"model": state | rest | {"decoder_blocks.0.norm1.weight": torch.ones(32)}}


def finetuned_autoencoder(state):
    head = {"head.weight": torch.zeros(1000, 48), "head.bias": torch.zeros(1000)}
    return {"model": {re.sub(r"^norm\.", "fc_norm.", name): value for name, value in state.items()} | head}


def dino(state):
    teacher = {f"module.backbone.{name}": value for name, value in state.items()}
    teacher["module.head.last_layer.weight_v"] = torch.zeros(8, 8)
    return {"teacher": teacher, "student": {name: -value for name, value in teacher.items()}, "epoch": 1}


def deit3(state):
    return {"model": {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): value for name, value in state.items()}}


def registers(state):
    """DINOv2's: the class token has a position, registers have none."""
    state = dict(state)
    first = torch.full((1, 1, 48), 0.5)
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - first
    return state | {"register_tokens": state.pop("reg_token"), "mask_token": torch.zeros(1, 48)}


def openai(state):
    swaps = [
        ("patch_embed.proj", "conv1"), ("pos_embed", "positional_embedding"), ("cls_token", "class_embedding"),
        ("blocks.", "transformer.resblocks."), ("norm_pre", "ln_pre"), (".norm", ".ln_"), ("qkv.", "in_proj_"),
        ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
    ]  # fmt: skip
    named = {"text_projection": torch.zeros(48, 48), "visual.proj": torch.zeros(48, 512)}
    for name, value in state.items():
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        name = re.sub(r"^norm\.", "ln_post.", name)
        few = name in ("positional_embedding", "class_embedding")
        named[f"visual.{name}"] = value.flatten(0, -2).squeeze(0) if few else value
    return named


def openclip(state):
    pooled = {"visual.trunk.attn_pool.latent": torch.zeros(1, 1, 48), "text.token_embedding.weight": torch.zeros(9, 48)}
    return {f"visual.trunk.{name}": value for name, value in state.items()} | pooled


def dinov3(state):
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"gamma_(\d)", r"ls\1.gamma", name).replace("reg_token", "storage_tokens")
        renamed[name] = value
    rest = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    return renamed | rest | {"blocks.0.attn.qkv.bias_mask": torch.ones(144)}


LAYOUTS = {
    "MAE, pretrained": ("vit_base_patch16_224", masked_autoencoder, None),
    "MAE, fine-tuned": ("vit_base_patch16_224", finetuned_autoencoder, None),
    "DINO, teacher": ("vit_small_patch16_224", dino, "teacher"),
    "DeiT-3": ("deit3_small_patch16_224", deit3, None),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", registers, None),
    "CLIP": ("vit_base_patch32_clip_224", openai, None),
    "SigLIP": ("vit_base_patch16_siglip_224", openclip, None),
    "DINOv3": ("vit_small_patch16_dinov3", dinov3, None),
    "EVA-02": ("eva02_tiny_patch14_224", dict, None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_give_the_network_they_are_of(tmp_path, layout):
    name, published, key = LAYOUTS[layout]
    donor = timms(name, num_classes=0)
    state = {name: value for name, value in donor.state_dict().items() if not name.startswith("attn_pool")}
    torch.save(published(state), tmp_path / "w.pth")
    host = vit.build(small(name, weights=str(tmp_path / "w.pth"), weights_key=key), 4, 224)
    found = host.vit.state_dict()
    assert set(found) == set(state)
    for name, value in state.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_positions_and_patches_of_another_size_are_resampled_as_timm_does(tmp_path, name):
    donor = timms(name, img_size=280)
    torch.save(without_head(donor), tmp_path / "w.pth")
    host = vit.build(small(name, weights=str(tmp_path / "w.pth")), 4, 224)
    side, prefix = 280 // host.patch_size, 0 if host.vit.no_embed_class else host.prefix_tokens
    expected = resample_abs_pos_embed(
        donor.pos_embed, list(host.vit.patch_embed.grid_size), [side, side], num_prefix_tokens=prefix
    )
    torch.testing.assert_close(host.vit.pos_embed, expected)
    halved = vit.build(small(name, weights=str(tmp_path / "w.pth"), patch_size=7), 4, 224)
    assert halved.vit.patch_embed.proj.weight.shape[-2:] == (7, 7)
    assert halved.vit.patch_embed.grid_size == (32, 32)


def test_files_that_do_not_fit_are_refused(tmp_path):
    whole = without_head(timms("vit_tiny_patch16_224"))
    cases = {
        "missing: blocks.1.attn.qkv.weight": {k: v for k, v in whole.items() if k != "blocks.1.attn.qkv.weight"},
        "unexpected: blocks.2.norm1.weight": whole | {"blocks.2.norm1.weight": torch.ones(48)},
        "unexpected: reg_token": whole | {"reg_token": torch.zeros(1, 4, 48)},
        "nan, infinite": whole | {"norm.weight": torch.full((48,), torch.nan)},
        "timm cannot bring its layout": whole | {"pos_embed": torch.zeros(1, 190, 48)},
        "have 0 x 0 pixels": whole | {"patch_embed.proj.weight": torch.zeros(48, 3, 0, 0)},
        "missing: ": {"layer1.0.conv1.weight": torch.zeros(3, 3)},
    }
    for said, state in cases.items():
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(DataError, match=said) as refused:
            vit.build(small("vit_tiny_patch16_224", weights=str(tmp_path / "w.pth")), 4, 224)
        assert str(tmp_path / "w.pth") in str(refused.value)


def test_a_file_of_other_patches_is_no_accident(tmp_path):
    path = str(tmp_path / "w.pth")
    torch.save(without_head(timms("vit_small_patch32_224")), path)
    with pytest.raises(DataError, match=r"have 32 x 32 pixels, the model's 16 x 16; .* backbone\.patch_size"):
        vit.build(small("vit_small_patch16_224", weights=path), 4, 224)
    host = vit.build(small("vit_small_patch16_224", weights=path, patch_size=16), 4, 224)
    assert host.patch_size == 16
    torch.save(
        without_head(timms("vit_tiny_patch16_224")) | {"patch_embed.proj.weight": torch.zeros(48, 3, 0, 0)}, path
    )
    with pytest.raises(DataError, match="timm cannot bring its layout"):
        vit.build(small("vit_tiny_patch16_224", weights=path, patch_size=16), 4, 224)


def test_what_timm_has_no_weights_of_is_not_fetched():
    with pytest.raises(ConfigError, match="no published weights of vit_small_patch16_36x1_224"):
        vit.shape(vit.Config(vit="vit_small_patch16_36x1_224", weights="pretrained"))
