"""PSA pixel by pixel in float64, written from the paper and science of its authors' code: slow on purpose."""

from __future__ import annotations

import math

import numpy as np

OFFSETS = [(0, 1), (0, 2), (0, 3), (0, 4)] + [(y, x) for y in range(1, 5) for x in range(-4, 5) if math.hypot(y, x) < 5]


def sources(h: int, w: int) -> list[tuple[int, int]]:
    """Positions from which every offset stays on the grid, whatever the row and column."""
    return [(y, x) for y in range(h) for x in range(w) if y + 4 < h and x - 4 >= 0 and x + 4 < w]


def affinities(features: np.ndarray) -> dict[tuple[tuple[int, int], tuple[int, int]], float]:
    """(source, partner) -> affinity, for features (k, h, w)."""
    k, h, w = features.shape
    found = {}
    for y, x in sources(h, w):
        for dy, dx in OFFSETS:
            distance = sum(abs(features[c, y, x] - features[c, y + dy, x + dx]) for c in range(k)) / k
            found[(y, x), (y + dy, x + dx)] = math.exp(-distance)
    return found


def walk(values: dict, maps: np.ndarray, beta: float, logt: int) -> np.ndarray:
    """Maps (c, h, w) times the column-normalised matrix, by its ``logt``-fold square."""
    c, h, w = maps.shape
    matrix = np.eye(h * w)
    for ((y, x), (v, u)), value in values.items():
        matrix[y * w + x, v * w + u] = matrix[v * w + u, y * w + x] = value**beta
    matrix /= matrix.sum(axis=0)
    return (maps.reshape(c, -1) @ np.linalg.matrix_power(matrix, 2**logt)).reshape(maps.shape)


def position_labels(scores: np.ndarray, stride: int) -> np.ndarray:
    """Rules of the labels, position by position, for scores (2, k1, height, width)."""
    _, k1, height, width = scores.shape
    labels = np.zeros((height // stride, width // stride), dtype=int)
    for y in range(height // stride):
        for x in range(width // stride):
            block = scores[:, :, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
            low, high = ([block[row, c].mean() for c in range(k1)] for row in (0, 1))
            labels[y, x] = low.index(max(low))
            if labels[y, x] == 0:
                labels[y, x] = 255
            if high.index(max(high)) == 0:
                labels[y, x] = 0
            if max(low + high) < 1e-5:
                labels[y, x] = 255
    return labels


def loss(values: list[dict], labels: np.ndarray) -> float:
    """Of a batch: ``values`` of each image as from :func:`affinities`, labels (b, h, w)."""
    terms: dict[str, list[float]] = {"background": [], "class": [], "different": []}
    for image, pairs in zip(labels, values, strict=True):
        for (source, partner), value in pairs.items():
            a, b = image[source], image[partner]
            if 255 in (a, b):
                continue
            if a != b:
                terms["different"].append(-math.log(1 + 1e-5 - value))
            else:
                terms["background" if a == 0 else "class"].append(-math.log(value + 1e-5))
    mean = {kind: sum(found) / len(found) if found else 0.0 for kind, found in terms.items()}
    return mean["background"] / 4 + mean["class"] / 4 + mean["different"] / 2
