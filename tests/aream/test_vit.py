"""The host of any timm transformer with global attention, family by family."""

from __future__ import annotations

import pytest
import torch
from backbone_contract import check_backbone
from safetensors.torch import save_file
from timm import create_model
from timm.layers import resample_abs_pos_embed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aream.backbones import vit
from aream.errors import ConfigError, DataError

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
    return vit.Config(**{"vit": name, "depth": 2, "dim": 48, "heads": 3, "drop_path": 0.0, **FAMILIES[name], **changes})


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


@pytest.mark.parametrize("name", FAMILIES)
def test_contract(name):
    config = small(name, patch_size=FAMILIES[name].get("patch_size", 8))
    check_backbone(vit, config)


class Watched(TorchFunctionMode):
    """Values and outputs of attention as the network calls it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if function is F.scaled_dot_product_attention:
            self.calls.append((args[2], found))
        return found


@pytest.mark.parametrize("sides", [(224, 224), (208, 256)])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_network_is_timms_and_its_attention_that_of_the_layers(name, sides):
    """Patch tokens are those of timm's forward pass, and softmax(q k' / sqrt(d) + bias) v its attention's output."""
    host = built(small(name))
    batch = images(host.patch_size, sides)
    with torch.no_grad(), Watched() as watched:
        output = host(batch)
    with torch.no_grad():
        tokens = host.vit.forward_features(batch)[:, host.prefix_tokens :]
        norm = host.vit.fc_norm if isinstance(host.vit.norm, torch.nn.Identity) else torch.nn.Identity()
        expected = host.head(norm(tokens).transpose(1, 2).unflatten(2, output.grid))
    assert torch.equal(output.cam, expected.relu())
    assert len(watched.calls) == len(output.layers) == host.depth
    for layer, (values, found) in zip(output.layers, watched.calls, strict=True):
        logits = layer.queries.double() @ layer.keys.double().transpose(2, 3) * layer.queries.shape[-1] ** -0.5
        weights = (logits if layer.bias is None else logits + layer.bias.double()).softmax(dim=-1)
        assert weights.std() > 1e-4
        torch.testing.assert_close((weights @ values.double()).float(), found, rtol=1e-4, atol=1e-5)


def test_families_have_the_tokens_strides_and_colours_that_timm_says():
    found = {}
    for name in ("vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224", "vit_base_patch32_clip_224"):
        host = built(small(name))
        found[name] = (host.prefix_tokens, host.class_rows, host.patch_size, host.mean[0])
    assert found["vit_small_patch14_reg4_dinov2"] == (5, slice(0, 1), 14, 0.485)
    assert found["vit_base_patch16_siglip_224"] == (0, None, 16, 0.5)
    assert found["vit_base_patch32_clip_224"] == (1, slice(0, 1), 32, 0.48145466)
    assert vit.shape(vit.Config(vit="vit_tiny_r_s16_p8_224")) == (12, 32)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "is a ResNet"),
        ("swin_tiny_patch4_window7_224", "is a SwinTransformer"),
        ("vit_small_patch16_18x2_224", "its 18 blocks called 36 fused attentions"),
        ("vit_tiny_patch16_22", "near are vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.nothing", "its tags are augreg"),
    ],
)
def test_other_networks_are_refused_before_anything_runs(name, said):
    with pytest.raises(ConfigError, match=said):
        vit.shape(vit.Config(vit=name))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vit": "vit_base_patch16_siglip_224", "localisation": "fused"}, "needs a class token"),
        ({"vit": "eva02_tiny_patch14_224", "initialisation": "mimetic"}, "need timm"),
        ({"auxiliary_layer": 11}, r"0\.\.10"),
        ({"class_attention_layers": 13}, r"1\.\.12"),
        ({"dim": 50, "heads": 5, "vit": "vit_base_patch16_rope_224"}, "does not run on"),
    ],
)
def test_settings_that_a_network_cannot_have_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        vit.shape(vit.Config(**{"vit": "vit_tiny_patch16_224", **changes}))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_another_grid_are_brought_to_that_of_the_training_images(tmp_path, suffix):
    donor = create_model("vit_tiny_patch16_224", img_size=160, depth=2, embed_dim=48, num_heads=3)
    path = str(tmp_path / f"w.{suffix}")
    if suffix == "pth":
        torch.save({"model": donor.state_dict()}, path)
    else:
        save_file(donor.state_dict(), path)
    host = built(small("vit_tiny_patch16_224", weights=path), image_size=224)
    expected = resample_abs_pos_embed(donor.pos_embed, [14, 14], [10, 10])
    torch.testing.assert_close(host.vit.pos_embed, expected)
    torch.testing.assert_close(host.vit.norm.weight, donor.norm.weight)
    own = str(tmp_path / "own.pth")
    torch.save(host.state_dict(), own)
    again = vit.build(small("vit_tiny_patch16_224", weights=own), 4, 160)
    torch.testing.assert_close(again.head.weight, host.head.weight)
    assert again.vit.patch_embed.grid_size == (10, 10)
    with pytest.raises(DataError, match=r"other shape: head\.bias"):
        vit.build(small("vit_tiny_patch16_224", weights=own), 5, 160)


def test_real_weights_give_timms_features(data_root):
    path = data_root / "weights" / "vit_tiny_patch16_224_imagenet1k.pth"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    host = vit.build(vit.Config(vit="vit_tiny_patch16_224", weights=str(path)), 20, 224).eval()
    model = create_model("vit_tiny_patch16_224", checkpoint_path=str(path)).eval()
    batch = images(16, (224, 224))
    with torch.no_grad():
        found, expected = host(batch), model.forward_features(batch)
    grid = expected[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    assert torch.equal(found.cam, host.head(grid).relu())
    with pytest.raises(DataError, match="does not fit VisionTransformer"):
        vit.build(vit.Config(vit="vit_small_patch16_224", weights=str(path)), 20, 224)
