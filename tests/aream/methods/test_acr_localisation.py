"""Gradients of logits through attention: the authors' numbers, and the plain form on hosts of other layouts."""

from __future__ import annotations

import acr_tiny
import pytest
import torch
from acr_tiny import EXACT
from small_conformers import random_host
from small_mctformers import built as mctformer
from small_transformers import built as transformer
from small_transformers import images, small
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aream.cams.maps import normalise
from aream.methods import acr
from aream.methods._gradient_maps import differentiable_from, gradient_maps

MODES = {
    "gradient": "grad",
    "attention_gradient": "cam_grad",
    "gradient_squared": "grad_s",
    "attention_gradient_squared": "cam_grad_s",
}
CLASS_TOKEN = {"head_kernel": 1, "pooling": "class_token"}
HOSTS = {
    "vit": lambda: transformer(small("vit_tiny_patch16_224", patch_size=8, depth=3, **CLASS_TOKEN), 32),
    "distilled": lambda: transformer(small("deit_tiny_distilled_patch16_224", depth=3, **CLASS_TOKEN), 64),
    "auxiliary": lambda: transformer(
        small("vit_tiny_patch16_224", patch_size=8, depth=4, auxiliary_layer=2, **CLASS_TOKEN), 32
    ),
    "registers": lambda: transformer(small("vit_small_patch14_reg4_dinov2", depth=3, **CLASS_TOKEN), 56),
    "mctformer_v1": lambda: mctformer("v1", classes=4),
    "mctformer_v2": lambda: mctformer("v2", classes=4),
    "mctformer_plus": lambda: mctformer("plus", classes=4),
    "conformer": lambda: random_host().eval(),
}


def localised(host, batch, classes, **changes):
    method = acr.build(acr.resolve(acr.Config(**changes), host.depth))
    with torch.no_grad():
        return method.localise(host, batch, classes)[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("affinity", [False, True])
def test_maps_are_the_authors(mode, affinity):
    numbers = acr_tiny.stored()
    host, present = acr_tiny.host(numbers), numbers["labels"][..., None]
    classes = torch.arange(5).repeat(2, 1)
    maps = localised(host, numbers["images"], classes, localisation=mode, patch_affinity=affinity)
    expected = numbers[MODES[mode] + "_aff" * affinity]
    torch.testing.assert_close(maps.flatten(2) * present, expected, **EXACT)


def test_maps_at_image_size_are_the_authors_where_corners_are_aligned():
    """Ours are enlarged without aligned corners: what is summed and normalised is the same."""
    numbers = acr_tiny.stored()
    host, total = acr_tiny.host(numbers), 0
    for mirrored in (False, True):
        view = numbers["images"].flip(-1) if mirrored else numbers["images"]
        maps = localised(host, view, torch.arange(5).repeat(2, 1), patch_affinity=True)
        full = F.interpolate(maps, size=(48, 80), mode="bilinear", align_corners=True)
        total = total + (full.flip(-1) if mirrored else full)
    found = normalise(total) * numbers["labels"][..., None, None]
    torch.testing.assert_close(found, numbers["image_map"], **EXACT)


class Explicit(TorchFunctionMode):
    """Attention as a map that is differentiated, as the authors have it."""

    def __init__(self):
        super().__init__()
        self.maps = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        bias = (kwargs or {}).get("attn_mask")
        logits = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5
        self.maps.append((logits if bias is None else logits + bias).softmax(dim=-1))
        return self.maps[-1] @ value


def plain_maps(host, batch, classes, count, mode):
    """One class of one image at a time, backward through the whole network."""
    with Explicit() as explicit:
        scores = host(batch).scores
    rows, t = range(host.prefix_tokens)[host.class_rows], host.prefix_tokens
    found = torch.zeros(*classes.shape, explicit.maps[0].shape[-1] - t, dtype=scores.dtype)
    for image, own in enumerate(classes.tolist()):
        for place, c in enumerate(own):
            gradients = torch.autograd.grad(
                scores[image, c], explicit.maps[-count:], retain_graph=True, allow_unused=True
            )
            for attention, gradient in zip(explicit.maps[-count:], gradients, strict=True):
                if gradient is None:
                    continue
                row = rows[c] if len(rows) > 1 else rows[0]
                g, a = gradient[image, :, row, t:], attention[image, :, row, t:].detach()
                found[image, place] += {
                    "gradient": g.relu().mean(dim=0),
                    "attention_gradient": (a * g).relu().mean(dim=0),
                    "gradient_squared": g.relu().mean(dim=0) ** 2,
                    "attention_gradient_squared": (a * g).relu().mean(dim=0) * g.relu().mean(dim=0),
                }[mode]
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", HOSTS)
def test_maps_of_any_host_are_those_of_one_class_and_image_at_a_time(name, mode):
    host = HOSTS[name]().double()
    batch = images(max(8, host.patch_size), (48, 64)).double()
    classes = torch.tensor([[1, 3, 0], [2, 0, 0]])
    with torch.no_grad():
        host.head_parameters()[0].mul_(3)
    maps = localised(host, batch, classes, localisation=mode)
    expected = plain_maps(host, batch, classes, 2, mode)
    scale = expected.amax()
    assert scale > 0
    torch.testing.assert_close(maps.flatten(2) / scale, expected / scale, **EXACT)
    assert maps.shape[2:] == host(batch).grid


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_graph_is_of_the_last_layers_and_holds_no_map(count):
    host = HOSTS["vit"]()
    batch, kept = images(8, (48, 64)), []
    tokens = host.prefix_tokens + 48
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        output = differentiable_from(host, batch, host.depth - count)
    graph = [layer.attended.requires_grad for layer in output.layers]
    assert graph == [layer >= host.depth - count for layer in range(host.depth)]
    assert kept
    assert all(shape[-2:] != (tokens, tokens) for shape in kept)
    gradient_maps(output, torch.zeros(2, 1).long(), [host.depth - 1], "gradient", 1, slice(0, 1))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in host.parameters())


def test_images_without_classes_have_no_maps():
    host = HOSTS["vit"]()
    assert localised(host, images(8, (48, 64)), torch.zeros(2, 0).long()).shape == (2, 0, 6, 8)


def test_the_host_s_own_maps_take_no_gradient():
    host = HOSTS["vit"]()
    batch, classes = images(8, (48, 64)), torch.tensor([[1, 3], [2, 0]])
    output = host(batch)
    expected = torch.stack([host.localise(output)[image, own] for image, own in enumerate(classes)])
    torch.testing.assert_close(localised(host, batch, classes, localisation="host"), expected)
    assert not acr.LOCALISES(acr.Config(localisation="host"))
    assert acr.LOCALISES(acr.Config(localisation="host", patch_affinity=True))
