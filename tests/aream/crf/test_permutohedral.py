from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from aream.crf.permutohedral import PermutohedralLattice
from aream.errors import ConfigError


def lattice_filter(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al. 2010, sections 3.1-3.3, point by point: nearest remainder-0 point, ranks, barycentric weights, a
    hash table of corners, [1/2, 1, 1/2] along each axis. Without a scale factor."""
    n, d = features.shape
    basis = np.zeros((d + 1, d))
    for i in range(d):
        basis[: i + 1, i] = 1
        basis[i + 1, i] = -(i + 1)
        basis[:, i] *= (d + 1) * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2))
    table: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(values.shape[1]))
    inside = []
    for point in range(n):
        x = basis @ features[point]
        nearest = (d + 1) * np.round(x / (d + 1)).astype(int)
        surplus = nearest.sum() // (d + 1)
        order = np.argsort(-(x - nearest), kind="stable")
        if surplus > 0:
            nearest[order[d + 1 - surplus :]] -= d + 1
        elif surplus < 0:
            nearest[order[:-surplus]] += d + 1
        difference = x - nearest
        rank = np.empty(d + 1, dtype=int)
        rank[np.argsort(-difference, kind="stable")] = np.arange(d + 1)
        falling = np.sort(difference)[::-1]
        corners = []
        for k in range(d + 1):
            corner = tuple((nearest + np.where(rank <= d - k, k, k - (d + 1))).tolist())
            if k == 0:
                weight = 1 - (falling[0] - falling[d]) / (d + 1)
            else:
                weight = (falling[d - k] - falling[d + 1 - k]) / (d + 1)
            corners.append((corner, weight))
            table[corner] += weight * values[point]
        inside.append(corners)
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        blurred = {}
        for corner in table:
            sides = [tuple((np.array(corner) + side * step).tolist()) for side in (1, -1)]
            blurred[corner] = table[corner] + sum(table[side] for side in sides if side in table) / 2
        table = blurred
    return np.stack([sum(weight * table[corner] for corner, weight in corners) for corners in inside])


def gaussian_sum(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    return np.exp(-distances / 2) @ values


def pixel_features(image: np.ndarray, sxy: float, srgb: float | None) -> np.ndarray:
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    position = np.stack([x, y]).reshape(2, -1) / sxy
    return (position if srgb is None else np.concatenate([position, image.reshape(3, -1) / srgb])).T


def smooth_image(height: int, width: int) -> np.ndarray:
    """Two shaded regions under a little noise, in [0, 255]."""
    y, x = np.mgrid[:height, :width]
    object_ = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) / 3) ** 2
    image = np.stack([60 + x, 80 + y, 100 + 0 * x]) + 90.0 * object_
    return image + np.random.default_rng(0).normal(0, 4, image.shape)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_equals_the_lattice_written_point_by_point(d):
    rng = np.random.default_rng(d)
    features, values = rng.normal(0, 1.5, (60, d)), rng.random((60, 3))
    expected = lattice_filter(features, values)
    found = PermutohedralLattice(torch.from_numpy(features)).filter(torch.from_numpy(values)).numpy()
    ratio = found / expected
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-10)
    single = PermutohedralLattice(torch.from_numpy(features).float()).filter(torch.from_numpy(values).float())
    np.testing.assert_allclose(single.numpy(), found, rtol=1e-4)


@pytest.mark.parametrize(("sxy", "srgb", "worst", "typical"), [(3, None, 0.05, 0.01), (8, 20, 0.05, 0.01)])
def test_approximates_the_exact_gaussian_mean_of_an_image(sxy, srgb, worst, typical):
    """The lattice is an approximation; how far off it is for values in [0, 1], at most and on average."""
    image = smooth_image(24, 32)
    features = pixel_features(image, sxy, srgb)
    step = image[0].reshape(-1, 1) > image[0].mean()
    noise = np.random.default_rng(1).random(step.shape)
    values = np.concatenate([step, noise, np.ones_like(noise)], axis=1)
    exact = gaussian_sum(features, values)
    found = PermutohedralLattice(torch.from_numpy(features)).filter(torch.from_numpy(values)).numpy()
    error = np.abs(found[:, :2] / found[:, 2:] - exact[:, :2] / exact[:, 2:])

    assert error.max() < worst
    assert error.mean() < typical


def test_sums_have_the_scale_of_the_exact_ones():
    features = pixel_features(np.zeros((3, 40, 40)), 3, None)
    ones = np.ones((len(features), 1))
    exact = gaussian_sum(features, ones).reshape(40, 40)
    found = PermutohedralLattice(torch.from_numpy(features)).filter(torch.from_numpy(ones)).numpy().reshape(40, 40)
    np.testing.assert_allclose(found[12:28, 12:28], exact[12:28, 12:28], rtol=0.05)


def test_channels_are_filtered_one_by_one_and_linearly():
    generator = torch.Generator().manual_seed(0)
    features, values = torch.randn(50, 3, generator=generator), torch.rand(50, 4, generator=generator)
    lattice = PermutohedralLattice(features)
    together = lattice.filter(values)
    for channel in range(4):
        torch.testing.assert_close(lattice.filter(values[:, channel : channel + 1])[:, 0], together[:, channel])
    torch.testing.assert_close(
        lattice.filter(3 * values[:, :1] + values[:, 1:2]), 3 * together[:, :1] + together[:, 1:2]
    )


@pytest.mark.parametrize("d", [1, 2, 5])
def test_one_point_and_many_equal_points(d):
    features = torch.full((1, d), 0.3, dtype=torch.float64)
    one = PermutohedralLattice(features).filter(torch.ones(1, 1, dtype=torch.float64))
    many = PermutohedralLattice(features.repeat(7, 1)).filter(torch.ones(7, 1, dtype=torch.float64))
    assert one.item() > 0
    torch.testing.assert_close(many, 7 * one.repeat(7, 1))


def test_far_points_need_64_bit_numbers_and_do_not_meet():
    features = torch.zeros(2, 5, dtype=torch.float64)
    features[1] = 500
    found = PermutohedralLattice(features).filter(torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    assert found[0] > 0
    assert found[1] == 0


def test_too_many_cells_are_refused():
    features = torch.zeros(2, 5, dtype=torch.float64)
    features[1] = 1e6
    with pytest.raises(ConfigError, match="standard deviations"):
        PermutohedralLattice(features)
