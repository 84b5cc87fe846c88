from __future__ import annotations

import torch

from aream.cams.maps import fuse_class_attention, normalise, refine


def test_normalise_maps_each_class_to_the_unit_interval():
    cam = torch.randn(2, 3, 4, 5)
    found = normalise(cam)
    for image in range(2):
        for c in range(3):
            rectified = cam[image, c].clamp(min=0)
            expected = (rectified - rectified.min()) / (rectified.max() - rectified.min() + 1e-6)
            torch.testing.assert_close(found[image, c], expected)


def test_normalise_of_constant_and_single_pixel_maps_is_zero():
    assert normalise(torch.full((1, 1, 3, 3), 7.0)).eq(0).all()
    assert normalise(torch.full((1, 2, 1, 1), -3.0)).eq(0).all()


def test_refine_is_the_row_weighted_sum():
    cam, affinity = torch.rand(2, 3, 2, 2), torch.rand(2, 4, 4)
    found = refine(cam, affinity)
    for image in range(2):
        for c in range(3):
            values = cam[image, c].flatten()
            expected = torch.stack([sum(affinity[image, m, n] * values[n] for n in range(4)) for m in range(4)])
            torch.testing.assert_close(found[image, c].flatten(), expected)


def test_refining_by_a_mean_of_affinities_is_the_mean_of_refinements():
    cam, a, b = torch.rand(1, 2, 3, 3), torch.rand(1, 9, 9), torch.rand(1, 9, 9)
    torch.testing.assert_close(refine(cam, (a + b) / 2), (refine(cam, a) + refine(cam, b)) / 2)


def test_class_attention_multiplies_the_map_of_its_class():
    cam, attention = torch.rand(1, 2, 2, 2), torch.rand(1, 2, 4)
    expected = cam.clone()
    for c in range(2):
        for y in range(2):
            for x in range(2):
                expected[0, c, y, x] *= attention[0, c, 2 * y + x]
    torch.testing.assert_close(fuse_class_attention(cam, attention), expected)
