"""Conformer as straightforward functions of its state dict, one attention head and one patch at a time."""

from __future__ import annotations

import torch
from torch.nn import functional as F


class Oracle:
    """The network of Peng et al. (2021) in eval mode; ``queries`` and ``keys`` are kept a layer, heads side by side."""

    def __init__(self, state, *, depth: int, heads: int, patch: int, double: bool):
        self.state, self.depth, self.heads, self.patch, self.double = state, depth, heads, patch, double
        self.queries, self.keys = [], []

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def conv(self, name, x, stride=1, padding=0):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding)

    def batch_norm(self, name, x, eps=1e-6):
        part = {key: self.state[f"{name}.{key}"][:, None, None] for key in ("weight", "bias")}
        mean, var = (self.state[f"{name}.running_{key}"][:, None, None] for key in ("mean", "var"))
        return (x - mean) / (var + eps).sqrt() * part["weight"] + part["bias"]

    def layer_norm(self, name, x, eps=1e-6):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / ((centred**2).mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def attention(self, name, x):
        q, k, v = self.linear(f"{name}.qkv", x).chunk(3, dim=-1)
        self.queries.append(q)
        self.keys.append(k)
        width = x.shape[-1] // self.heads
        mixed = []
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            logits = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
            weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
            mixed.append(weights @ v[..., part])
        return self.linear(f"{name}.proj", torch.cat(mixed, -1))

    def transformer(self, name, x):
        x = x + self.attention(f"{name}.attn", self.layer_norm(f"{name}.norm1", x))
        hidden = self.linear(f"{name}.mlp.fc1", self.layer_norm(f"{name}.norm2", x))
        return x + self.linear(f"{name}.mlp.fc2", gelu(hidden))

    def bottleneck(self, name, x, added=None, stride=1):
        inner = self.batch_norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).clamp(min=0)
        inner = inner if added is None else inner + added
        inner = self.batch_norm(f"{name}.bn2", self.conv(f"{name}.conv2", inner, stride, 1)).clamp(min=0)
        out = self.batch_norm(f"{name}.bn3", self.conv(f"{name}.conv3", inner))
        if f"{name}.residual_conv.weight" in self.state:
            x = self.batch_norm(f"{name}.residual_bn", self.conv(f"{name}.residual_conv", x, stride))
        return (out + x).clamp(min=0), inner

    def down(self, name, x, side):
        """FCUDown: the mean of the projected features over each patch."""
        x = self.conv(f"{name}.conv_project", x)
        h, w = x.shape[2] // side, x.shape[3] // side
        patches = [
            x[:, :, r * side : (r + 1) * side, c * side : (c + 1) * side].mean((2, 3))
            for r in range(h)
            for c in range(w)
        ]
        return gelu(self.layer_norm(f"{name}.ln", torch.stack(patches, 1)))

    def up(self, name, patches, h, w, side):
        """FCUUp: every patch repeated over its positions."""
        x = patches.transpose(1, 2).reshape(len(patches), -1, h, w)
        x = self.batch_norm(f"{name}.bn", self.conv(f"{name}.conv_project", x)).clamp(min=0)
        return x.repeat_interleave(side, 2).repeat_interleave(side, 3)

    def __call__(self, images):
        """Last features of the convolution branch, and the normalised class token."""
        h, w = images.shape[2] // self.patch, images.shape[3] // self.patch
        stem = self.batch_norm("bn1", self.conv("conv1", images, 2, 3), eps=1e-5).clamp(min=0)
        stem = F.max_pool2d(stem, 3, 2, 1)
        features, _ = self.bottleneck("conv_1", stem)
        patches = self.conv("trans_patch_conv", stem, self.patch // 4).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.state["cls_token"].expand(len(images), 1, -1), patches], 1)
        tokens = self.transformer("trans_1", tokens)
        third, side = self.depth // 3, self.patch // 4
        for number in range(2, self.depth + 1):
            name, stride = f"conv_trans_{number}", 1
            if number in (third + 1, 2 * third + 1) and side > 1:
                stride, side = 2, side // 2
            features, inner = self.bottleneck(f"{name}.cnn_block", features, stride=stride)
            squeezed = self.down(f"{name}.squeeze_block", inner, side)
            joined = torch.cat([tokens[:, :1] if self.double else 0 * tokens[:, :1], squeezed], 1)
            tokens = self.transformer(f"{name}.trans_block", joined + tokens)
            added = self.up(f"{name}.expand_block", tokens[:, 1:], h, w, side)
            features, _ = self.bottleneck(f"{name}.fusion_block", features, added)
        return features, self.layer_norm("trans_norm", tokens[:, 0], eps=1e-5)


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def layout(dim=384, depth=12, stem=64, ratio=4, patch=16) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict without its two heads, batch norm buffers left out."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, dim), "conv1.weight": (stem, 3, 7, 7)}

    def affine(name, size):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    def dense(name, out, *rest):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, *rest), (out,)

    def transformer(name):
        affine(f"{name}.norm1", dim)
        affine(f"{name}.norm2", dim)
        dense(f"{name}.attn.qkv", 3 * dim, dim)
        dense(f"{name}.attn.proj", dim, dim)
        dense(f"{name}.mlp.fc1", 4 * dim, dim)
        dense(f"{name}.mlp.fc2", dim, 4 * dim)

    def bottleneck(name, inputs, outputs, projected):
        inner = outputs // 4
        for number, shape in enumerate([(inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1)], 1):
            shapes[f"{name}.conv{number}.weight"] = shape
            affine(f"{name}.bn{number}", shape[0])
        if projected:
            shapes[f"{name}.residual_conv.weight"] = (outputs, inputs, 1, 1)
            affine(f"{name}.residual_bn", outputs)

    affine("bn1", stem)
    bottleneck("conv_1", stem, stem * ratio, True)
    dense("trans_patch_conv", dim, stem, patch // 4, patch // 4)
    transformer("trans_1")
    inputs = stem * ratio
    for number in range(2, depth + 1):
        outputs = stem * ratio * (1 if number <= depth // 3 else 2 if number <= 2 * depth // 3 else 4)
        name = f"conv_trans_{number}"
        bottleneck(f"{name}.cnn_block", inputs, outputs, inputs != outputs)
        bottleneck(f"{name}.fusion_block", outputs, outputs, number == depth)
        dense(f"{name}.squeeze_block.conv_project", dim, outputs // 4, 1, 1)
        affine(f"{name}.squeeze_block.ln", dim)
        dense(f"{name}.expand_block.conv_project", outputs // 4, dim, 1, 1)
        affine(f"{name}.expand_block.bn", outputs // 4)
        transformer(f"{name}.trans_block")
        inputs = outputs
    affine("trans_norm", dim)
    return shapes
