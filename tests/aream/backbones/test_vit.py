"""The host of any timm transformer with global attention, family by family."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import oracles
import pytest
import torch
from backbone_contract import check_backbone
from safetensors.torch import save_file
from small_transformers import FAMILIES, built, images, small
from timm import create_model
from timm.layers import resample_abs_pos_embed, set_fused_attn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aream.backbones import vit
from aream.backbones._mimetic import sinusoidal_positions
from aream.cams.affinity import affinity_logits
from aream.errors import ConfigError, DataError


@pytest.mark.parametrize("name", FAMILIES)
def test_contract(name):
    config = small(name, patch_size=FAMILIES[name].get("patch_size", 8))
    check_backbone(vit, config)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_tokens": "per_class"},
        {"class_tokens": "per_class", "registers": 3},
        {"class_tokens": "per_class", "class_token_mass": "split"},
    ],
)
def test_contract_with_a_token_a_class(changes):
    check_backbone(vit, small("vit_tiny_patch16_224", patch_size=8, localisation="fused", **changes))


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def by_hand(host, batch, normed: bool):
    """Scores of the auxiliary and of the last layer, from what the blocks hand on."""
    heard = []
    hooks = [block.register_forward_hook(lambda module, given, made: heard.append(made)) for block in host.vit.blocks]
    with torch.no_grad():
        host.vit.forward_features(batch)
    for hook in hooks:
        hook.remove()
    scores = []
    for tokens, head in ((heard[0], host.auxiliary_head), (heard[-1], host.head)):
        features = host.vit.norm(tokens) if normed else tokens
        grid = features[:, host.prefix_tokens :].transpose(1, 2).unflatten(2, (4, 6))
        scores.append(F.conv2d(grid, head.weight, head.bias, padding=head.weight.shape[-1] // 2))
    return scores


POOLED = {
    "average": lambda scores: scores.mean(dim=(2, 3)),
    "max": lambda scores: scores.flatten(2).max(dim=2).values,
    "gwrp": lambda scores: torch.stack(
        [torch.stack([ranked(map_.flatten().tolist(), 0.9) for map_ in maps]) for maps in scores]
    ),
}


def ranked(values: list[float], decay: float) -> torch.Tensor:
    weights = [decay**rank for rank in range(len(values))]
    best_first = sorted(values, reverse=True)
    return torch.tensor(sum(w * v for w, v in zip(weights, best_first, strict=True)) / sum(weights))


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize(("kernel", "normed"), [(3, True), (1, False)])
def test_heads_read_the_last_and_a_middle_layer(pooling, kernel, normed):
    changes = {"pooling": pooling, "rank_decay": 0.9, "head_kernel": kernel, "final_norm": normed}
    host = built(small("vit_tiny_patch16_224", depth=3, auxiliary_layer=0, **changes))
    assert host.head.weight.shape[2:] == (kernel, kernel)
    batch = images(16, (64, 96))
    auxiliary, last = by_hand(host, batch, normed)
    with torch.no_grad():
        output = host(batch)
    torch.testing.assert_close(output.cam, last.relu(), rtol=1e-4, atol=1e-5)
    for found, scores in zip(output.logits, (last, auxiliary), strict=True):
        torch.testing.assert_close(found, POOLED[pooling](scores), rtol=1e-4, atol=1e-5)
    found = {id(parameter) for parameter in host.head_parameters()}
    assert found == {id(parameter) for head in (host.head, host.auxiliary_head) for parameter in head.parameters()}


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_the_class_token_looks_at_what_is_fused_with_the_cam(name, reduce):
    settings = {"localisation": "fused", "class_attention_layers": 2, "class_attention_reduce": reduce}
    host = built(small(name, depth=3, **settings))
    with torch.no_grad():
        output = host(images(host.patch_size, (64, 96)))
    maps = [oracles.mean_softmax(layer.queries, layer.keys, host.prefix_tokens)[:, 0] for layer in output.layers[-2:]]
    attention = torch.stack(maps).sum(0).reshape(2, 1, *output.grid) / (2 if reduce == "mean" else 1)
    torch.testing.assert_close(host.localise(output), output.cam * attention)
    plain = built(small(name, depth=3))
    assert torch.equal(plain.localise(output), output.cam)


def test_names_without_decay_are_timms():
    host = built(small("vit_small_patch14_reg4_dinov2"))
    assert host.no_weight_decay() == {"vit.pos_embed", "vit.cls_token", "vit.reg_token"}


def test_mimetic_attention_is_that_of_the_other_hosts():
    host = vit.build(small("vit_tiny_patch16_224", initialisation="mimetic"), 4, 64)
    torch.testing.assert_close(host.vit.pos_embed[:, 1:], sinusoidal_positions((4, 4), 48))
    for block in host.vit.blocks:
        queries, keys = block.attn.qkv.weight[:16], block.attn.qkv.weight[48:64]
        assert (queries.T @ keys).diagonal().mean() > 0.1  # like attends to like


def test_attention_is_read_whatever_timm_is_told_about_fusing():
    """TIMM_FUSED_ATTN=0, as an environment may have it, or a program that exports networks."""
    set_fused_attn(False)
    try:
        host = built(small("vit_tiny_patch16_224"))
    finally:
        set_fused_attn(True)
    assert len(host(images(16, (64, 96))).layers) == 2


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_gradients_of_one_image_after_the_other_add_up_at_the_training_grid(name):
    """Where positions are added as they are, the gradients of some parameters are views of others'."""
    side = 4 * vit.shape(small(name))[1]
    host = built(small(name), image_size=side)
    batch = images(host.patch_size, (side, side))

    def gradients(parts):
        host.zero_grad()
        for part in parts:
            output = host(part)
            (output.scores.sum() + affinity_logits(output.layers[0], host.prefix_tokens).sum()).backward()
        return {name: parameter.grad for name, parameter in host.named_parameters() if parameter.grad is not None}

    whole, pieces = gradients([batch]), gradients(batch.split(1))
    assert set(whole) == set(pieces)
    assert any("blocks.0" in name for name in whole)
    for name, expected in whole.items():
        torch.testing.assert_close(pieces[name], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_half_precision_and_drop_path_keep_every_layer():
    host = vit.build(small("vit_tiny_patch16_224", depth=3, drop_path=0.9), 4, 64).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = host(images(16, (64, 64)))
        affinity_logits(output.layers[0], host.prefix_tokens).float().sum().backward()
    assert [layer.queries.dtype for layer in output.layers] == [torch.bfloat16] * 3
    assert host.vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


COMPILED = """
import torch
from aream.cams.affinity import affinity_logits
from aream.backbones import vit
host = vit.build(vit.Config(vit="vit_tiny_patch16_224", depth=2, dim=48, heads=3, drop_path=0.0), 4, 64)
compiled, images = torch.compile(host, backend="eager"), torch.randn(2, 3, 64, 64)
gradients = []
for network in (host, compiled):
    host.zero_grad()
    output = network(images)
    (output.scores.sum() + affinity_logits(output.layers[1], 1).sum()).backward()
    gradients.append((output.cam, *(layer.keys for layer in output.layers), host.vit.blocks[1].attn.qkv.weight.grad))
for one, other in zip(*gradients, strict=True):
    torch.testing.assert_close(one, other)
"""


@pytest.mark.slow
def test_a_compiled_network_is_the_same():
    """In a process of its own, without the type checks of the tests, which cannot be compiled."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=Path(__file__).parents[3], timeout=300)
