"""Affinity loss from queries and keys, heads merged, against the mean of every head's logits."""

from __future__ import annotations

import functools

import torch

from aream.cams.affinity import LayerQK, affinity_logits
from aream.engine.losses import affinity_loss
from benchmarks.measure import Kind, Result, cpu_seconds, peak_bytes
from benchmarks.published import affinity_loss_per_head, logits_per_head

LAYERS, BATCH, HEADS, TOKENS, WIDTH = 3, 8, 6, 576, 64

KIND: Kind = "cpu"


def measure() -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    # In memory as a timm block makes them: heads beside each other in a token's row, viewed heads first.
    shape = (2 * LAYERS, BATCH, TOKENS + 1, HEADS, WIDTH)
    tensors = [tensor.clone().requires_grad_() for tensor in torch.randn(shape, generator=generator).unbind(0)]
    views = [tensor.transpose(1, 2) for tensor in tensors]
    q, k = views[:LAYERS], views[LAYERS:]
    labels = torch.randint(0, 3, (BATCH, TOKENS, TOKENS), generator=generator)
    labels[labels == 2] = 255
    gradients: dict[str, tuple[torch.Tensor, ...]] = {}

    def ours() -> None:
        logits = [affinity_logits(LayerQK(a, b), 1) for a, b in zip(q, k, strict=True)]
        gradients["ours"] = torch.autograd.grad(affinity_loss(logits, labels), tensors)

    def baseline() -> None:
        logits = logits_per_head(q, k)  # a training loop holds its model's outputs until after the backward
        gradients["baseline"] = torch.autograd.grad(affinity_loss_per_head(logits, 1, labels), tensors)

    results = sum(tensor.nbytes for tensor in tensors)  # the gradients, which both must return
    ours_bytes, base_bytes = peak_bytes(ours) - results, peak_bytes(baseline) - results
    spent, base = cpu_seconds(ours, baseline, repeats=5)
    difference = max((a - b).abs().max().item() for a, b in zip(gradients["ours"], gradients["baseline"], strict=True))
    result = functools.partial(
        Result,
        input=f"{LAYERS} layers, batch {BATCH}, {TOKENS} tokens, {HEADS} heads of {WIDTH}, forward and backward",
        same=difference < 1e-6,
        difference=f"gradients differ by {difference:.1e} at most",
    )
    return [
        result(name="affinity_loss", unit="CPU s", ours=spent, baseline=base, required=2.5),
        result(
            name="affinity_loss_memory",
            unit="MiB beyond gradients",
            ours=ours_bytes / 2**20,
            baseline=base_bytes / 2**20,
            required=5,
        ),
    ]
