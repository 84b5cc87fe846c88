"""The maps, pooling, positions and sizes of the MCTformer hosts, against loops in float64."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from small_mctformers import CLASSES, HOSTS, SIZE, built
from torch.nn import functional as F

from aream.backbones import mctformer_plus, mctformer_v1, mctformer_v2
from aream.backbones._rank_pooling import rank_pooling
from aream.backbones.mctformer_plus import class_token_contrast
from aream.errors import ConfigError


def attention_of(output, layers):
    """A map a layer, (layers, b, classes, n), in float64."""
    maps = [
        oracles.mean_softmax(output.layers[i].queries.double(), output.layers[i].keys.double(), CLASSES) for i in layers
    ]
    return torch.stack(maps)[:, :, :CLASSES]


@pytest.fixture
def images():
    return torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize(
    ("changes", "layers", "reduce"), [({}, (1, 2, 3), "sum"), ({"class_attention_layers": None}, range(4), "sum")]
)
def test_the_maps_of_v1_are_what_its_class_tokens_attend_to(images, changes, layers, reduce):
    host = built("v1", **changes)
    output = host(images)
    expected = attention_of(output, layers).sum(dim=0).reshape(2, CLASSES, 3, 4)
    torch.testing.assert_close(output.cam.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(host.localise(output), output.cam)
    (scores,) = output.logits
    tokens = tokens_of(host, images)
    for image in range(2):
        for c in range(CLASSES):
            assert scores[image, c].item() == pytest.approx(sum(tokens[image, c].tolist()) / 12, abs=1e-5)


def tokens_of(host, images):
    """After the last layer, by timm's own blocks."""
    h, w = images.shape[2] // 8, images.shape[3] // 8
    patches = host.patch_embed.proj(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([host.cls_token.expand(len(images), -1, -1), patches], dim=1) + host.positions(h, w)
    for block in host.blocks:
        tokens = block(tokens)
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("name", ["v2", "plus"])
@pytest.mark.parametrize(
    ("changes", "layers"),
    [({}, range(4)), ({"class_attention_layers": 3, "class_attention_reduce": "sum"}, (1, 2, 3)),
     ({"class_attention_layers": 1}, (3,))],
)  # fmt: skip
@pytest.mark.parametrize("localisation", ["fused", "patchcam", "mct"])
def test_the_maps_that_are_refined(images, name, changes, layers, localisation):
    host = built(name, localisation=localisation, **changes)
    output = host(images)
    attention = attention_of(output, layers).sum(dim=0)
    if changes.get("class_attention_reduce") != "sum":
        attention = attention / len(layers)
    attention = attention.reshape(2, CLASSES, 3, 4)
    features = tokens_of(host, images)[:, CLASSES:].transpose(1, 2).reshape(2, 12, 3, 4)
    scores = F.conv2d(features.double(), host.head.weight.double(), host.head.bias.double(), padding=1)
    rectified = torch.where(scores > 0, scores, torch.zeros_like(scores))
    expected = {"fused": attention * rectified, "patchcam": rectified, "mct": attention}[localisation]
    if name == "plus" and localisation == "fused":
        expected = expected**0.5
    assert rectified.max() > 0
    torch.testing.assert_close(host.localise(output).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_more_layers_than_there_are_say_nothing(name):
    config = HOSTS[name].Config(**SIZE, class_attention_layers=5)
    with pytest.raises(ConfigError, match=r"class_attention_layers: need a number in 1\.\.4 .*got 5"):
        HOSTS[name].shape(config)
    with pytest.raises(ConfigError, match="class_attention_layers"):
        HOSTS[name].Config(**SIZE, class_attention_layers=0)


@pytest.mark.parametrize("side", [1, 2, 5])
@pytest.mark.parametrize("decay", [0.996, 0.5, 1.0])
def test_rank_pooling(side, decay):
    scores = torch.randn(2, CLASSES, side, side, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    found = rank_pooling(scores, decay)
    for image in range(2):
        for c in range(CLASSES):
            ranked = sorted(scores[image, c].flatten().tolist(), reverse=True)
            expected = sum(decay**i * s for i, s in enumerate(ranked)) / sum(decay**i for i in range(len(ranked)))
            assert found[image, c].item() == pytest.approx(expected, abs=1e-6)
    if decay == 1:
        torch.testing.assert_close(found.double(), scores.mean(dim=(2, 3)), rtol=0, atol=1e-6)


def test_plus_scores_an_image_by_ranked_patches(images):
    host = built("plus", rank_decay=0.7)
    with torch.no_grad():
        output = host(images)
        features = tokens_of(host, images)[:, CLASSES:].transpose(1, 2).reshape(2, 12, 3, 4)
        ranked = host.head(features).flatten(2).sort(descending=True).values
    weights = torch.tensor([0.7**i for i in range(12)])
    torch.testing.assert_close(output.logits[1], (ranked * weights).sum(-1) / weights.sum(), rtol=1e-4, atol=1e-5)
    assert output.cam.min() == 0  # rectified after it was pooled


def contrast(tokens, labels):
    """Every layer, image and class in turn, float64."""
    layers, b, classes, _ = tokens.shape
    total = 0.0
    for layer in range(layers):
        for image in range(b):
            present = [c for c in range(classes) if labels[image, c]]
            for c in present:
                own = tokens[layer, image, c]
                cosines = [
                    float(own @ other) / (math.sqrt(own @ own) * math.sqrt(other @ other))
                    for other in tokens[layer, image]
                ]
                total += (math.log(sum(math.exp(x) for x in cosines)) - cosines[c]) / len(present) / layers / b
    return total


@pytest.mark.parametrize(
    "labels", [[[1, 0, 1], [0, 1, 0]], [[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], ids=["some", "all", "none"]
)
def test_class_tokens_are_kept_apart(labels):
    tokens = torch.randn(2, 2, CLASSES, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor(labels, dtype=torch.float64)
    found = class_token_contrast(tokens, labels)
    assert found.item() == pytest.approx(contrast(tokens, labels), abs=1e-6)


def test_the_contrast_pushes_present_tokens_from_the_others_only():
    """Two equal tokens part; an absent class's own row asks for nothing."""
    tokens = torch.eye(3)[None, None].clone().requires_grad_()
    with torch.no_grad():
        tokens[0, 0, 1] = tokens[0, 0, 0] + 0.01
    class_token_contrast(tokens, torch.tensor([[1.0, 0, 0]])).backward()
    step = tokens.detach() - 0.1 * tokens.grad
    before, after = (F.cosine_similarity(t[0, 0, 0], t[0, 0, 1], dim=0) for t in (tokens.detach(), step))
    assert after < before
    assert class_token_contrast(torch.ones(1, 1, 1, 4), torch.ones(1, 1)).item() == 0  # one class: nothing to tell


def test_a_loss_without_weight_is_no_term(images):
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    (one,) = built("plus")(images).host_losses(labels).values()
    (two,) = built("plus", contrast_weight=2.0)(images).host_losses(labels).values()
    torch.testing.assert_close(two, 2 * one)
    assert not built("plus", contrast_weight=0.0)(images).host_losses(labels)
    for changes in ({"contrast_weight": -1.0}, {"contrast_weight": math.nan}, {"rank_decay": 0.0}, {"rank_decay": 1.1}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            mctformer_plus.Config(**changes)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 1), (9, 2)])
def test_positions_of_plus(grid):
    """The training grid's own; others by bicubic interpolation, class tokens untouched and no shift."""
    host = built("plus")
    with torch.no_grad():
        found = host.positions(*grid)
    assert found.shape == (1, CLASSES + grid[0] * grid[1], 12)
    torch.testing.assert_close(found[:, :CLASSES], host.pos_embed_cls)
    own = host.pos_embed_pat.reshape(4, 4, 12).permute(2, 0, 1)[None]
    expected = own if grid == (4, 4) else F.interpolate(own, scale_factor=(grid[0] / 4, grid[1] / 4), mode="bicubic")
    assert expected.shape[2:] == grid
    torch.testing.assert_close(found[0, CLASSES:], expected[0].flatten(1).T, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_sizes_of_the_published_hosts():
    """DeiT-S, 20 classes; + at 448 pixels."""
    with torch.device("meta"):
        sizes = {
            "v1": mctformer_v1.MCTformerV1(mctformer_v1.Config(), 20, None),
            "v2": mctformer_v2.MCTformerV2(mctformer_v2.Config(), 20, None),
            "plus": mctformer_plus.MCTformerPlus(mctformer_plus.Config(), 20, 448),
        }
    counts = {name: sum(parameter.numel() for parameter in host.parameters()) for name, host in sizes.items()}
    head, more_positions = 20 * 384 * 9 + 20, (784 - 196) * 384
    assert counts == {"v1": 21_749_396 - head, "v2": 21_749_396, "plus": 21_749_396 + more_positions}
    assert sizes["v2"].pos_embed.shape == (1, 216, 384)
    assert sizes["v2"].head.weight.shape == (20, 384, 3, 3)
    assert sizes["plus"].pos_embed_cls.shape == (1, 20, 384)
    assert sizes["plus"].pos_embed_pat.shape == (1, 784, 384)
