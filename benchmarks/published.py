"""The published forms of what this project computes otherwise, written from the papers' descriptions: baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from aream.refiners import par


def par_convolutions(images: Tensor, scores: Tensor, config: par.Config) -> Tensor:
    """PAR as published: a 3x3 one-hot kernel a neighbour and dilation, applied by convolution."""
    one_hot = torch.zeros(8, 1, 3, 3, dtype=images.dtype)
    for index, (y, x) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]):
        one_hot[index, 0, y, x] = 1

    def neighbours(maps: Tensor) -> Tensor:
        b, c, h, w = maps.shape
        found = []
        for dilation in config.dilations:
            padded = F.pad(maps, (dilation,) * 4, mode="replicate").reshape(
                b * c, 1, h + 2 * dilation, w + 2 * dilation
            )
            found.append(F.conv2d(padded, one_hot, dilation=dilation).reshape(b, c, 8, h, w))
        return torch.cat(found, dim=2)

    around = neighbours(images)
    spread = around.std(dim=2, keepdim=True)
    color = -(((around - images[:, :, None]).abs() / (spread + 1e-8) / config.sharpness) ** 2).mean(dim=1, keepdim=True)
    distances = torch.tensor(
        [d * r for d in config.dilations for r in (2**0.5, 1, 2**0.5, 1, 1, 2**0.5, 1, 2**0.5)],
        dtype=images.dtype,
    )
    position = -((distances / (distances.std() + 1e-8) / config.sharpness) ** 2)
    kernel = color.softmax(dim=2) + config.position_weight * position.softmax(dim=0)[None, None, :, None, None]
    for _ in range(config.iterations):
        scores = (neighbours(scores) * kernel).sum(dim=2)
    return scores


def psa_transition(affinities: Tensor, h: int, w: int, beta: float) -> Tensor:
    """One image's transition matrix, dense as published: affinities (34, h - 4, w - 8) and their mirror by index, ones
    on the diagonal, the power, columns that sum to 1."""
    grid = torch.arange(h * w).reshape(h, w)
    offsets = [(0, x) for x in range(1, 5)]
    offsets += [(y, x) for y in range(1, 5) for x in range(-4, 5) if y * y + x * x < 25]
    matrix = torch.eye(h * w, dtype=affinities.dtype)
    if h > 4 and w > 8:
        source = grid[: h - 4, 4 : w - 4].flatten()
        for (y, x), values in zip(offsets, affinities.flatten(1), strict=True):
            partner = grid[y : y + h - 4, 4 + x : w - 4 + x].flatten()
            matrix[source, partner] = values
            matrix[partner, source] = values
    matrix = matrix**beta
    return matrix / matrix.sum(dim=0, keepdim=True)


def psa_walk(affinities: Tensor, maps: Tensor, beta: float, logt: int) -> Tensor:
    """One image's maps (c, h, w) times the transition matrix squared ``logt`` times."""
    _, h, w = maps.shape
    transition = psa_transition(affinities, h, w, beta)
    for _ in range(logt):
        transition = transition @ transition
    return (maps.flatten(1) @ transition).reshape(maps.shape)


def logits_per_head(queries: Sequence[Tensor], keys: Sequence[Tensor]) -> list[Tensor]:
    """Every head's logits of every layer, as a host's forward returns them."""
    return [(q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5 for q, k in zip(queries, keys, strict=True)]


def affinity_loss_per_head(logits: Sequence[Tensor], class_tokens: int, labels: Tensor) -> Tensor:
    """Mean over heads, sigmoid, and masked means of positives and negatives, a layer at a time."""
    total = torch.zeros(())
    positive, negative = (labels == 1).float(), (labels == 0).float()
    for layer in logits:
        probability = torch.sigmoid(layer[:, :, class_tokens:, class_tokens:].mean(dim=1))
        gain = ((1 - probability) * positive).sum() / (positive.sum() + 1)
        push = (probability * negative).sum() / (negative.sum() + 1)
        total = total + 0.5 * gain + 0.5 * push
    return total / len(logits)


def miou_at(images: Sequence[tuple[np.ndarray, Sequence[int], np.ndarray]], threshold: float, classes: int) -> float:
    """One threshold as published evaluations do it: a full score volume an image, and TP, P and T class by class."""
    hits, predicted, actual = (np.zeros(classes, dtype=np.int64) for _ in range(3))
    for scores, ids, target in images:
        volume = np.zeros((classes, *target.shape), dtype=np.float32)
        for score, identifier in zip(scores, ids, strict=True):
            volume[identifier] = score
        volume[0] = threshold
        prediction = volume.argmax(axis=0).astype(np.uint8)
        counted = target < 255
        same = (prediction == target) * counted
        for c in range(classes):
            predicted[c] += np.sum((prediction == c) * counted)
            actual[c] += np.sum((target == c) * counted)
            hits[c] += np.sum((target == c) * same)
    return float(np.mean(hits / (actual + predicted - hits + 1e-10)))
