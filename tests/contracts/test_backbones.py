from __future__ import annotations

import argparse
import dataclasses
import os

import pytest
import torch
from backbone_contract import check_backbone
from contract_configs import contract_config
from torch.nn import functional as F

from aream import backbones, discover
from aream.backbones import conformer, mctformer_plus, mctformer_v1, mctformer_v2, vit
from aream.backbones._timm_vit import run_block
from aream.errors import ConfigError, DataError
from aream.networks.checkpoint import read_state_dict

SIZE = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 2, "heads": 3, "drop_path": 0.0}
TINY = mctformer_v2.Config(**SIZE)
SMALL_CONFIGS = {
    "conformer": conformer.Config(patch_size=8, dim=12, depth=3, heads=3, base_channels=4, channel_ratio=1),
    "mctformer_plus": mctformer_plus.Config(**SIZE),
    "mctformer_v1": mctformer_v1.Config(**SIZE, class_attention_layers=1),
    "mctformer_v2": TINY,
    "vit": vit.Config(**SIZE, localisation="fused", auxiliary_layer=0, pooling="gwrp"),
}
"""Without one, or a word of its own, a backbone is checked as it is by default, which may take longer."""


@pytest.mark.parametrize("name", discover.names(backbones))
def test_contract(name, tmp_path):
    module = discover.load(backbones, name)
    check_backbone(module, contract_config(module, SMALL_CONFIGS, tmp_path))


@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize("name", ["mctformer_plus", "mctformer_v2", "vit"])
def test_the_last_tokens_are_what_the_heads_read(name, final_norm):
    config = dataclasses.replace(SMALL_CONFIGS[name], final_norm=final_norm)
    host = discover.load(backbones, name).build(config, 3, 32).eval()
    output = host(torch.randn(2, 3, 32, 32))
    of_classes, patches = output.tokens[-1].split([host.prefix_tokens, 16], dim=1)
    torch.testing.assert_close(host.head(patches.transpose(1, 2).reshape(2, 12, 4, 4)).relu(), output.cam)
    if name != "vit":
        torch.testing.assert_close(of_classes.mean(dim=-1), output.logits[0])


def test_the_class_tokens_of_v1_are_its_logits():
    host = mctformer_v1.build(SMALL_CONFIGS["mctformer_v1"], 3, 32).eval()
    output = host(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(output.tokens[-1][:, :3].mean(dim=-1), output.logits[0])


def test_attention_is_that_of_timm():
    """A block run for its queries and keys gives what timm's own forward gives."""
    host = mctformer_v2.build(TINY, 3, 32).eval()
    tokens = torch.randn(2, 10, 12)
    found, layer = run_block(host.blocks[0], tokens)
    torch.testing.assert_close(found, host.blocks[0](tokens))
    assert layer.queries.shape == (2, 3, 10, 4)


def test_parameter_count_of_the_published_host():
    with torch.device("meta"):
        host = mctformer_v2.MCTformerV2(mctformer_v2.Config(), classes=20, image_size=None)
    assert sum(parameter.numel() for parameter in host.parameters()) == 21_749_396


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"]
)
def test_the_plain_vits_users_name(name):
    assert mctformer_v2.shape(mctformer_v2.Config(vit=name)) == (12, 16)


@pytest.mark.parametrize(
    "name", ["resnet50", "vit_nothing", "vit_base_patch16_clip_224", "vit_small_patch14_reg4_dinov2"]
)
def test_other_networks_are_refused(name):
    with pytest.raises(ConfigError, match="plain ViT"):
        mctformer_v2.shape(mctformer_v2.Config(vit=name))


@pytest.mark.parametrize("changes", [{"dim": 64}, {"heads": 5}])
@pytest.mark.parametrize("name", ["mctformer_v1", "mctformer_v2", "mctformer_plus", "vit"])
def test_sizes_that_timm_cannot_build_are_refused(name, changes):
    """The other size is the named model's: 384 and 6 heads."""
    module = discover.load(backbones, name)
    said = r"timm cannot build deit_small_patch16_224 with .*: dim should be divisible by num_heads"
    with pytest.raises(ConfigError, match=said):
        module.shape(module.Config(vit="deit_small_patch16_224", **changes))


def test_positions_of_another_grid_follow_the_published_interpolation():
    host = mctformer_v2.build(TINY, 2, 32)
    found = host.positions(6, 5)
    grid = host.pos_embed[:, 2:].reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, scale_factor=(6.1 / 4, 5.1 / 4), mode="bicubic", align_corners=False)
    assert found.shape == (1, 2 + 30, 12)
    torch.testing.assert_close(found[:, 2:], expected.permute(0, 2, 3, 1).flatten(1, 2))
    torch.testing.assert_close(found[:, :2], host.pos_embed[:, :2])


@pytest.mark.parametrize("suffix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_deit_weights_repeat_the_class_token(tmp_path, wrapper, suffix):
    donor = mctformer_v2.build(TINY, 1, 224)
    state = {suffix + k: v for k, v in donor.state_dict().items() if not k.startswith("head")}
    state |= {f"{suffix}head.weight": torch.zeros(1000, 12), f"{suffix}head.bias": torch.zeros(1000)}
    content = {wrapper: state, "args": argparse.Namespace(lr=0.1)} if wrapper else state
    torch.save(content, tmp_path / "w.pth")
    host = mctformer_v2.build(dataclasses.replace(TINY, weights=str(tmp_path / "w.pth")), 5, 224)
    for c in range(5):
        torch.testing.assert_close(host.cls_token[:, c], donor.cls_token[:, 0])
        torch.testing.assert_close(host.pos_embed[:, c], donor.pos_embed[:, 0])
    torch.testing.assert_close(host.blocks[1].attn.qkv.weight, donor.blocks[1].attn.qkv.weight)


def test_mctformer_checkpoints_load_whole(tmp_path):
    donor = mctformer_v2.build(TINY, 5, 224)
    torch.save({"model": donor.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    host = mctformer_v2.build(dataclasses.replace(TINY, weights=str(tmp_path / "w.pth")), 5, 224)
    torch.testing.assert_close(host.head.weight, donor.head.weight)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_weights_that_do_not_fit_or_would_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    donor = mctformer_v2.build(TINY, 1, 224).state_dict()
    del donor["blocks.1.attn.qkv.weight"]
    torch.save(donor, "partial.pth")
    torch.save({"x": Hostile()}, "hostile.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save([1, 2], "list.pth")
    with pytest.raises(DataError, match=r"missing: blocks\.1\.attn\.qkv\.weight \(1\)"):
        mctformer_v2.build(dataclasses.replace(TINY, weights="partial.pth"), 3, 224)
    for name, message in (
        ("hostile.pth", "cannot be read"),
        ("junk.pth", "cannot be read"),
        ("list.pth", "holds no state dict"),
        ("none.pth", "no such weight file"),
    ):
        with pytest.raises(DataError, match=message):
            read_state_dict(name)
    assert not (tmp_path / "pwned").exists()


def test_real_weights_load_and_normalise_by_half(data_root):
    path = data_root / "weights" / "vit_tiny_patch16_224_imagenet1k.pth"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    host = mctformer_v2.build(mctformer_v2.Config(vit="vit_tiny_patch16_224", weights=str(path)), 20, 224)
    assert host.mean == host.std == (0.5, 0.5, 0.5)
    with pytest.raises(DataError, match="does not fit"):
        mctformer_v2.build(mctformer_v2.Config(weights=str(path)), 20, 224)


@pytest.mark.parametrize("name", discover.names(backbones))
def test_a_file_of_the_host_itself_brings_its_head(name, tmp_path):
    module = discover.load(backbones, name)
    config = contract_config(module, SMALL_CONFIGS, tmp_path)
    if not hasattr(config, "weights"):
        pytest.skip("has no weights to be given")
    _, patch = module.shape(config)
    host = module.build(config, 3, 4 * patch)
    assert not getattr(host, "trained_head", False)
    torch.save(host.state_dict(), tmp_path / "host.pth")
    again = module.build(dataclasses.replace(config, weights=str(tmp_path / "host.pth")), 3, 4 * patch)
    assert getattr(again, "trained_head", True)
    for name, value in host.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
