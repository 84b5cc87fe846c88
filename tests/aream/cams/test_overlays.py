from __future__ import annotations

import numpy as np
from PIL import Image

from aream.cams.overlays import GAP, MATRIX_SIDE, cam_row, matrix_row


def test_matrices_lie_side_by_side_and_large_ones_are_averaged():
    large = np.zeros((2 * MATRIX_SIDE, 2 * MATRIX_SIDE))
    large[::2] = 1.0
    picture = np.asarray(matrix_row([large, np.ones_like(large), np.zeros_like(large)]), dtype=float)
    assert picture.shape == (MATRIX_SIDE, 3 * MATRIX_SIDE + 2 * GAP, 3)
    mixed, most, least = (
        picture[:, start : start + MATRIX_SIDE] for start in (0, *(MATRIX_SIDE + GAP) * np.arange(1, 3))
    )
    np.testing.assert_allclose(mixed.mean(axis=(0, 1)), (most + least).mean(axis=(0, 1)) / 2, atol=1)
    assert mixed.std(axis=(0, 1)).max() < 1


def test_one_patch_is_a_matrix_too():
    assert matrix_row([np.ones((1, 1))]).size == (160, 160)


def test_cams_lie_over_the_image_in_jet():
    image = Image.new("RGB", (200, 170), (10, 200, 30))
    row = np.asarray(cam_row(image, [np.zeros((170, 200)), np.ones((170, 200))]), dtype=float)
    assert row.shape == (170, 3 * 200 + 2 * GAP, 3)
    assert row[0, 0].tolist() == [10, 200, 30]
    assert row[5, 200 + GAP].tolist() == [5, 100, 15 + 127 // 2]  # half of the image, half of jet's dark blue
    assert row[5, 400 + 2 * GAP].tolist() == [5 + 127 // 2, 100, 15]
