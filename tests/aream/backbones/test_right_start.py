"""MCTformer hosts that start as the ViT whose weights they are given."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from aream.backbones import mctformer_plus, mctformer_v1, mctformer_v2
from aream.backbones._timm_vit import timm

SIZE = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 4, "heads": 3, "drop_path": 0.0}
HOSTS = {"v1": mctformer_v1, "v2": mctformer_v2, "plus": mctformer_plus}
CLASSES = 7


def small_vit(scale=1.0):
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", patch_size=8, embed_dim=12, depth=4, num_heads=3, img_size=32, num_classes=0,
        dynamic_img_size=True,
    ).eval()  # fmt: skip
    with torch.no_grad():  # attention far from uniform, and a class token that is seen
        for block in vit.blocks:
            block.attn.qkv.weight.mul_(30)
            block.mlp.fc2.weight.mul_(scale)
        vit.cls_token.normal_(std=2.0)
        vit.norm.weight.uniform_(0.5, 2.0)
    return vit


def weights_of(vit, tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file({name: value.contiguous() for name, value in vit.state_dict().items()}, path)
    return str(path)


def built(name, path, **changes):
    # The ViT's own positions are for 4 x 4 patches: the named timm model is made for that size.
    config = HOSTS[name].Config(**SIZE, **{"class_token_mass": "split", **changes})
    torch.manual_seed(1)
    host = HOSTS[name].build(config, CLASSES, 32).eval()
    state = dict(load_file(path))
    host.load_state_dict(host.adapt(state), strict=False)
    return host


@torch.no_grad()
@pytest.mark.parametrize("name", HOSTS)
def test_an_untrained_host_sees_what_the_vit_sees(name, tmp_path):
    vit = small_vit()
    host = built(name, weights_of(vit, tmp_path))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    expected = vit.forward_intermediates(images, intermediates_only=True, output_fmt="NLC", return_prefix_tokens=True)
    encoded = host.encode(images)
    last, prefix = expected[-1]
    torch.testing.assert_close(encoded.features.flatten(2).transpose(1, 2), last, rtol=1e-5, atol=1e-5)
    for c in range(CLASSES):  # each stands where the one stood
        torch.testing.assert_close(encoded.class_tokens[-1][:, c], prefix[:, 0], rtol=1e-5, atol=1e-5)
    copied = built(name, weights_of(vit, tmp_path), class_token_mass="copied").encode(images)
    assert (copied.features - encoded.features).abs().max() > 0.1


@torch.no_grad()
def test_pretrained_weights_are_seen_as_timm_sees_them(data_root):
    path = data_root / "weights" / "vit_tiny_patch16_224_imagenet1k.pth"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    state = torch.load(path, weights_only=True)["model"]
    vit.load_state_dict({key: value for key, value in state.items() if not key.startswith("head.")})
    host = mctformer_v2.build(mctformer_v2.Config(vit="vit_tiny_patch16_224", weights=str(path)), 20, 224).eval()
    images = F.interpolate(torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0)), size=224) * 2 - 1
    normed = vit.forward_features(images)[:, 1:].transpose(1, 2).reshape(1, -1, 14, 14)
    encoded = host.encode(images)
    torch.testing.assert_close(host.scores(encoded)[0], host.head(normed), rtol=1e-4, atol=1e-4)
    raw = vit.forward_intermediates(images, [11], intermediates_only=True, output_fmt="NLC")[0]
    assert (encoded.features.flatten(2).transpose(1, 2) - raw).norm() < 1e-5 * raw.norm()
    assert host.decisions() == {"split_class_tokens": 1.0, "final_norm": 1.0}


@torch.no_grad()
@pytest.mark.parametrize(("scale", "normed"), [(1.0, 0.0), (300.0, 1.0)])
def test_large_raw_features_are_normed(tmp_path, scale, normed):
    vit = small_vit(scale)
    path = weights_of(vit, tmp_path)
    config = dataclasses.replace(mctformer_v2.Config(**SIZE), weights=path)
    big = timm.create_model("vit_tiny_patch16_224", patch_size=8, embed_dim=12, depth=4, num_heads=3, num_classes=0)
    state = dict(load_file(path)) | {"pos_embed": big.state_dict()["pos_embed"]}
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    host = mctformer_v2.build(config, CLASSES, 224).eval()
    assert host.decisions() == {"split_class_tokens": 1.0, "final_norm": normed}
    features = torch.randn(1, 12, 3, 5, generator=torch.Generator().manual_seed(3)) * 9
    normal = (features - features.mean(1, keepdim=True)) / (features.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    expected = normal * vit.norm.weight[:, None, None] + vit.norm.bias[:, None, None] if normed else features
    torch.testing.assert_close(host.read(features), expected, rtol=1e-4, atol=1e-4)
    stated = dataclasses.replace(config, final_norm=not normed, class_token_mass="copied")
    assert mctformer_v2.build(stated, CLASSES, 224).decisions() == {
        "split_class_tokens": 0.0,
        "final_norm": 1.0 - normed,
    }


@pytest.mark.parametrize("name", HOSTS)
def test_published_files_keep_the_published_form_and_our_own_say_theirs(name, tmp_path):
    module = HOSTS[name]
    config = module.Config(**SIZE, class_token_mass="split", **({} if name == "v1" else {"final_norm": True}))
    donor = module.build(config, CLASSES, 224)
    state = {key: value.contiguous() for key, value in donor.state_dict().items()}
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    save_file(state, ours)
    save_file({key: value for key, value in state.items() if key != "_extra_state"}, theirs)
    auto = module.Config(**SIZE)
    read = module.build(dataclasses.replace(auto, weights=str(ours)), CLASSES, 224)
    assert set(read.decisions().values()) == {1.0}
    published = module.build(dataclasses.replace(auto, weights=str(theirs)), CLASSES, 224)
    assert set(published.decisions().values()) == {0.0}
    said = module.build(dataclasses.replace(auto, weights=str(ours), class_token_mass="copied"), CLASSES, 224)
    assert said.decisions()["split_class_tokens"] == 0.0
    twin = module.build(auto, CLASSES, 224)
    assert set(twin.decisions().values()) == {0.0}  # random weights are no ViT's
    twin.load_state_dict(donor.state_dict())
    assert twin.decisions() == donor.decisions()
