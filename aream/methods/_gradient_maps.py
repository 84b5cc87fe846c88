"""Maps of where a class's logit comes from: its gradient through what the class token attends to in the last layers.

Source: Sun et al., ACR, ICCV Workshops 2023, whose code offers the modes; the gradient of attention is that of Chefer
et al., "Transformer Interpretability Beyond Attention Visualization", CVPR 2021.
Axes: b images, k classes, t prefix tokens (they come first), n patches, d channels of a head.

Deviates: the authors' code keeps the attention of every layer for its gradient, goes backward through the whole network
for each class and reads one row. That row is <dy_k / dO[row], V_n>, of a head's output O before the projection and its
values V: here no attention is differentiated, and nothing below the last layers is. Numbers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.affinity import LayerQK
from aream.cams.precision import widened, without_autocast
from aream.errors import ConfigError

Mode = Literal["gradient", "attention_gradient", "gradient_squared", "attention_gradient_squared"]


def differentiable_from(backbone: Backbone, images: Float[Tensor, "b 3 height width"], layer: int) -> BackboneOutput:
    """The host's output, of which only what follows from this layer on can be differentiated; no weight gets a
    gradient."""
    start = {id(parameter) for parameter in backbone.layer_parameters(layer)}
    constants = {
        name: parameter.detach().requires_grad_(id(parameter) in start)
        for name, parameter in backbone.named_parameters()
    }
    # Compiled blocks cannot be differentiated for several classes together.
    with torch.enable_grad(), torch.compiler.set_stance("force_eager"):
        output: BackboneOutput = functional_call(cast(Any, backbone), constants, (images,))
    return output


def gradient_maps(
    output: BackboneOutput,
    classes: Int64[Tensor, "b k"],
    layers: Sequence[int],
    mode: Mode,
    prefix_tokens: int,
    class_rows: slice,
) -> Float[Tensor, "b k h w"]:
    """Sum over ``layers`` of the gradient at a class's row of the attention, >= 0 and not normalised.

    Args:
        output: :func:`differentiable_from` the first of the layers, of a host that treats its images one by one.
        classes: of each image; the first ones of all images are differentiated together, and so on.
        class_rows: one for all classes, or one a class.

    Raises:
        ConfigError: the host does not hand out what its heads make of their values.
    """
    picked = [output.layers[layer] for layer in layers]
    maps = widened(output.cam.new_zeros(classes.shape[1], len(classes), output.grid[0] * output.grid[1]))
    ends = [layer.attended for layer in picked if layer.attended is not None and layer.values is not None]
    if len(ends) < len(picked):
        raise ConfigError(
            "the backbone does not hand out its heads' values and outputs, which localising differentiates"
        )
    if not classes.shape[1]:
        return maps.transpose(0, 1).unflatten(2, output.grid)
    with torch.enable_grad():
        logits = output.scores.gather(1, classes).sum(dim=0)
    gradients = torch.autograd.grad(
        logits, ends, torch.eye(len(logits)).to(logits), is_grads_batched=True, allow_unused=True
    )
    rows = torch.arange(prefix_tokens)[class_rows].to(classes.device)
    own = (rows[classes] if len(rows) > 1 else rows.expand_as(classes)).T
    for layer, gradient in zip(picked, gradients, strict=True):
        if gradient is not None:
            maps = maps + _map(layer, gradient, own, prefix_tokens, mode)
    return maps.transpose(0, 1).unflatten(2, output.grid)


@torch.no_grad()
def _map(
    layer: LayerQK,
    gradient: Float[Tensor, "k b heads tokens d"],
    rows: Int64[Tensor, "k b"],
    prefix_tokens: int,
    mode: Mode,
) -> Float[Tensor, "k b n"]:
    k, b = (torch.arange(count, device=rows.device) for count in rows.shape)
    of_rows, patches = widened(gradient[k[:, None], b, :, rows]), slice(prefix_tokens, None)
    assert layer.values is not None
    with without_autocast(of_rows):
        raw = torch.einsum("kbhd,bhnd->kbhn", of_rows, widened(layer.values[:, :, patches]))
    rectified = raw.relu()
    if mode == "gradient":
        return rectified.mean(dim=2)
    if mode == "gradient_squared":
        return rectified.mean(dim=2).square()
    weighed = (raw * _attention(layer, rows)[..., patches]).relu().mean(dim=2)
    return weighed if mode == "attention_gradient" else weighed * rectified.mean(dim=2)


def _attention(layer: LayerQK, rows: Int64[Tensor, "k b"]) -> Float[Tensor, "k b heads tokens"]:
    """Each head's softmax attention of the rows, over all keys."""
    images = torch.arange(rows.shape[1], device=rows.device)
    queries, keys = widened(layer.queries[images, :, rows]), widened(layer.keys)
    with without_autocast(queries):
        logits = torch.einsum("kbhd,bhnd->kbhn", queries * keys.shape[-1] ** -0.5, keys)
    if layer.bias is not None:
        logits = logits + layer.bias.expand(*keys.shape[:3], keys.shape[2])[images, :, rows]
    return logits.softmax(dim=-1)
