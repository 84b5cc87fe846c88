from __future__ import annotations

import oracles
import pytest
import torch

from aream.labels.training_labels import affinity_labels, present_first, reliable_labels
from aream.refiners import none, par

REFINERS = {
    "none": none.build(none.Config()),
    "par": par.build(par.Config(dilations=(1, 2), iterations=3)),
}


@pytest.mark.parametrize("name", REFINERS)
def test_labels_are_those_of_one_image_and_one_alpha_at_a_time(name):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(3, 3, 16, 12, generator=generator)
    present = torch.tensor([[True, False, True, False], [False, True, False, False], [True, True, True, True]])
    cam = torch.rand(3, 4, 4, 3, generator=generator) * present[:, :, None, None]
    found = reliable_labels(cam, present, images, alpha_low=0.35, alpha_high=0.55, refiner=REFINERS[name])
    for index in range(3):
        expected = oracles.reliable_labels(
            cam[index],
            present[index],
            images[index],
            0.35,
            0.55,
            lambda image, scores: REFINERS[name].apply(REFINERS[name].kernel(image), scores),
        )
        torch.testing.assert_close(found[index], expected)
    assert {0, 255} < set(found.unique().tolist())


def test_between_the_alphas_is_uncertain():
    cam = torch.tensor([0.2, 0.45, 0.9]).reshape(1, 1, 1, 3).repeat(1, 1, 2, 1)
    images = torch.rand(1, 3, 2, 3)
    found = reliable_labels(
        cam,
        torch.ones(1, 1).bool(),
        images,
        alpha_low=0.35,
        alpha_high=0.55,
        refiner=REFINERS["none"],
        downscale=1,
    )
    assert found.tolist() == [[[0, 255, 1], [0, 255, 1]]]


def test_an_image_without_classes_is_background():
    found = reliable_labels(
        torch.rand(1, 2, 4, 4), torch.zeros(1, 2).bool(), torch.rand(1, 3, 8, 8),
        alpha_low=0.1, alpha_high=0.2, refiner=REFINERS["par"],
    )  # fmt: skip
    assert found.eq(0).all()


def test_padding_is_ignored_and_absent_classes_never_win():
    present = torch.tensor([[False, True]])
    cam = torch.ones(1, 2, 2, 2)  # class 1's map is full though it is absent
    valid = torch.ones(1, 6, 6).bool()
    valid[:, :, 4:] = False
    found = reliable_labels(
        cam,
        present,
        torch.rand(1, 3, 6, 6),
        alpha_low=0.3,
        alpha_high=0.5,
        refiner=REFINERS["par"],
        valid=valid,
    )
    assert found[:, :, :4].eq(2).all()
    assert found[:, :, 4:].eq(255).all()


def test_one_pixel_side():
    found = reliable_labels(
        torch.ones(1, 1, 1, 1), torch.ones(1, 1).bool(), torch.rand(1, 3, 1, 5),
        alpha_low=0.3, alpha_high=0.5, refiner=REFINERS["par"],
    )  # fmt: skip
    assert found.shape == (1, 1, 5)


def test_affinity_labels_compare_every_pair():
    labels = torch.tensor([[[0, 1], [255, 1]], [[2, 2], [2, 0]]])
    found = affinity_labels(labels.repeat_interleave(8, 1).repeat_interleave(8, 2), (2, 2))
    for image in range(2):
        flat = labels[image].flatten().tolist()
        for m in range(4):
            for n in range(4):
                expected = 255 if 255 in (flat[m], flat[n]) else int(flat[m] == flat[n])
                assert found[image, m, n] == expected


def test_maps_of_an_images_own_classes_give_the_labels_of_all_maps():
    """Without the maps of absent classes, in any order, with the label of each named."""
    generator = torch.Generator().manual_seed(5)
    images, cam = torch.rand(2, 3, 12, 16, generator=generator), torch.rand(2, 5, 3, 4, generator=generator)
    present = torch.tensor([[False, True, False, False, True], [False, False, False, True, False]])
    common = {"images": images, "alpha_low": 0.35, "alpha_high": 0.55, "refiner": REFINERS["par"]}
    expected = reliable_labels(cam, present, **common)
    kept = torch.stack([cam[0, [4, 1]], cam[1, [0, 3]]])
    found = reliable_labels(
        kept, torch.tensor([[True, True], [False, True]]), ids=torch.tensor([[5, 2], [1, 4]]), **common
    )
    torch.testing.assert_close(found, expected)
    assert {5, 2, 4} <= set(found.unique().tolist())


@pytest.mark.parametrize("counts", [(0, 0), (2, 0), (1, 3)])
def test_present_classes_come_first_and_in_order(counts):
    present = torch.zeros(2, 4).bool()
    for row, count in enumerate(counts):
        present[row, 4 - count :] = True
    order, kept = present_first(present)
    assert order.shape == kept.shape == (2, max(1, *counts))
    for row, count in enumerate(counts):
        assert kept[row].tolist() == [True] * count + [False] * (kept.shape[1] - count)
        assert order[row, :count].tolist() == list(range(4 - count, 4))
        assert not present[row, order[row, count:]].any()
