"""The equations as plain loops, written from the papers, slow on purpose: what the fast forms are held against."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F


def mean_logits(q, k):
    """mean_h Q_h K_h^T / sqrt(d), one head at a time."""
    b, heads, n, d = q.shape
    out = torch.zeros(b, n, n, dtype=q.dtype)
    for image in range(b):
        for head in range(heads):
            for row in range(n):
                for column in range(n):
                    out[image, row, column] += (q[image, head, row] @ k[image, head, column]) / math.sqrt(d) / heads
    return out


def mean_softmax(q, k, t):
    b, heads, n, d = q.shape
    out = torch.zeros(b, n, n - t, dtype=q.dtype)
    for image in range(b):
        for head in range(heads):
            for row in range(n):
                logits = torch.stack([(q[image, head, row] @ k[image, head, c]) / math.sqrt(d) for c in range(n)])
                weights = logits.exp() / logits.exp().sum()
                out[image, row] += weights[t:] / heads
    return out


def affinity_loss(logits_per_head, labels, weights, reduce):
    """1/2 [mean over positives of (1 - sigmoid) + mean over negatives of sigmoid], counts + 1, a layer at a time."""
    losses = []
    for layer in logits_per_head:
        probability = layer.mean(dim=1).sigmoid()
        positive, negative = (labels == 1), (labels == 0)
        gain = ((1 - probability) * positive).sum() / (positive.sum() + 1)
        push = (probability * negative).sum() / (negative.sum() + 1)
        losses.append(0.5 * gain + 0.5 * push)
    weighted = [loss * (1.0 if weights is None else weights[i]) for i, loss in enumerate(losses)]
    return sum(weighted) / (len(weighted) if reduce == "mean" else 1)


def par_kernel(image, dilations, sharpness, position_weight):
    """Weights (k, h, w) of one image (3, h, w), pixel by pixel, float64."""
    _, h, w = image.shape
    offsets = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    distances = np.array([math.hypot(y, x) for y, x in offsets])
    position = -((distances / (distances.std(ddof=1) + 1e-8) / sharpness) ** 2)
    position = np.exp(position - position.max()) / np.exp(position - position.max()).sum()
    kernel = np.zeros((len(offsets), h, w))
    for y in range(h):
        for x in range(w):
            neighbours = np.array(
                [image[:, min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)] for dy, dx in offsets]
            )
            spread = neighbours.std(axis=0, ddof=1)
            color = -((np.abs(neighbours - image[:, y, x]) / (spread + 1e-8) / sharpness) ** 2).mean(axis=1)
            color = np.exp(color - color.max()) / np.exp(color - color.max()).sum()
            kernel[:, y, x] = color + position_weight * position
    return offsets, kernel


def par(image, scores, dilations, sharpness, position_weight, iterations):
    offsets, kernel = par_kernel(image, dilations, sharpness, position_weight)
    _, h, w = scores.shape
    for _ in range(iterations):
        spread = np.zeros_like(scores)
        for y in range(h):
            for x in range(w):
                for index, (dy, dx) in enumerate(offsets):
                    spread[:, y, x] += (
                        kernel[index, y, x] * scores[:, min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)]
                    )
        scores = spread
    return scores


def reliable_labels(cam, present, image, alpha_low, alpha_high, refine, downscale=2):
    """One image: each alpha in turn, its present classes alone, refined and compared; then the two passes combined."""
    size = tuple(image.shape[1:])
    half = (max(1, size[0] // downscale), max(1, size[1] // downscale))
    small = F.interpolate(image[None], size=half, mode="bilinear", align_corners=False)
    classes = [c for c in range(len(present)) if present[c]]
    full = F.interpolate(cam[None], size=size, mode="bilinear", align_corners=False)[0]

    def winners(alpha):
        stack = torch.stack([torch.full(size, alpha, dtype=cam.dtype), *(full[c] for c in classes)])
        stack = F.interpolate(stack[None], size=half, mode="bilinear", align_corners=False).softmax(dim=1)
        refined = F.interpolate(refine(small, stack), size=size, mode="bilinear", align_corners=False)[0]
        ids = torch.tensor([0, *(c + 1 for c in classes)])
        return ids[refined.argmax(dim=0)]

    low, high = winners(alpha_low), winners(alpha_high)
    labels = torch.zeros(size, dtype=torch.int64)
    for y in range(size[0]):
        for x in range(size[1]):
            if high[y, x] != 0:
                labels[y, x] = high[y, x]
            elif low[y, x] != 0:
                labels[y, x] = 255
    return labels


def confusion(prediction, target, classes):
    counts = np.zeros((classes, classes), dtype=np.int64)
    for p, t in zip(prediction.ravel(), target.ravel(), strict=True):
        if t != 255:
            counts[t, p] += 1
    return counts


def threshold_confusions(images, thresholds, classes):
    """Every image read again for every threshold: argmax with the background channel first."""
    found = []
    for threshold in thresholds:
        counts = np.zeros((classes, classes), dtype=np.int64)
        for scores, ids, target in images:
            background = np.full((1, *target.shape), threshold, dtype=np.float32)
            winner = np.concatenate([background, scores]).argmax(axis=0)
            counts += confusion(np.array([0, *ids])[winner], target, classes)
        found.append(counts)
    return np.stack(found)
