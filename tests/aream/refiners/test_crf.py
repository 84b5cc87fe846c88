from __future__ import annotations

import pytest
import torch
from refining import refined

from aream.crf.dense_crf import DenseCRF, label_probabilities, with_background
from aream.errors import ConfigError
from aream.labels.training_labels import reliable_labels
from aream.refiners import crf

SMALL = crf.Config(iterations=5, gaussian_sxy=2.0, bilateral_sxy=10.0, bilateral_srgb=20.0)
INSIDE = (slice(6, 18), slice(8, 20))


def scenes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright rectangles on dark ground, and CAMs of two classes: the first too wide, the second weak."""
    generator = torch.Generator().manual_seed(0)
    images = 0.2 + 0.03 * torch.randn(count, 3, 24, 28, generator=generator)
    images[:, :, *INSIDE] += 0.6
    cams = 0.1 * torch.rand(count, 2, 24, 28, generator=generator)
    cams[:, 0, 4:20, 6:22] += 0.6
    return images.clamp(0, 1), cams


def test_refined_maps_are_foreground_posteriors_of_the_crf_with_a_background():
    images, cams = scenes(2)
    found = refined(crf.build(SMALL), images, cams)
    pairs = zip(images, cams, strict=True)
    expected = torch.stack([DenseCRF(SMALL).apply(image, with_background(cam, 4.0))[1:] for image, cam in pairs])
    assert torch.equal(found, expected)


def test_the_object_keeps_its_colour_edges_at_a_threshold_of_half():
    images, cams = scenes(1)
    expected = torch.zeros(24, 28, dtype=torch.bool)
    expected[INSIDE] = True
    found = refined(crf.build(SMALL), images, cams)[0]
    assert ((found.amax(dim=0) > 0.5) == expected).float().mean() > 0.98
    assert (found.argmax(dim=0)[INSIDE] == 0).all()


@pytest.mark.parametrize("unary", ["scores", "labels"])
def test_an_image_gives_the_same_alone_and_in_a_batch_padded_with_absent_classes(unary):
    images, cams = scenes(3)
    cams[1, 1] = 0
    refiner = crf.build(crf.Config(iterations=3, unary=unary))
    together = refined(refiner, images, cams)
    assert torch.equal(together[1, :1], refined(refiner, images[1:2], cams[1:2, :1])[0])
    assert (together[1, 1] == 0).all()
    assert torch.equal(together[2:], refined(refiner, images[2:], cams[2:]))


def test_images_without_any_class_stay_empty():
    images, cams = scenes(2)
    refiner = crf.build(SMALL)
    assert (refined(refiner, images, torch.zeros_like(cams)) == 0).all()
    assert refined(refiner, images, cams[:, :0]).shape == (2, 0, 24, 28)


def test_less_alpha_is_more_background():
    images, cams = scenes(1)
    shares = [
        refined(crf.build(crf.Config(iterations=3, alpha=alpha)), images, cams).mean().item()
        for alpha in (1.0, 4.0, 12.0, 32.0)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_a_constant_background():
    images, cams = scenes(1)
    config = crf.Config(iterations=3, background="constant", alpha=0.25)
    expected = DenseCRF(config).apply(images[0], with_background(cams[0], 0.25, "constant"))[1:]
    assert torch.equal(refined(crf.build(config), images, cams)[0], expected)


def test_hard_labels_are_those_of_all_classes():
    images, cams = scenes(1)
    config = crf.Config(iterations=3, unary="labels", background="constant", alpha=0.25, bilateral_srgb=5.0)
    labels = with_background(cams[0], 0.25, "constant").argmax(dim=0)
    expected = DenseCRF(config).apply(images[0], label_probabilities(labels, 21, 0.7))[1:3]
    assert torch.equal(refined(crf.build(config), images, cams)[0], expected)


def test_reliable_labels_follow_the_image():
    """The object's colour decides where the CAM is too wide; alphas far apart leave nothing unsure here."""
    images, cams = scenes(2)
    present = torch.tensor([[True, False], [True, True]])
    labels = reliable_labels(
        cams, present, images, alpha_low=0.3, alpha_high=0.4, refiner=crf.build(SMALL), downscale=1
    )
    expected = torch.zeros(24, 28, dtype=torch.long)
    expected[INSIDE] = 1
    assert ((labels == expected).float().mean(dim=(1, 2)) > 0.97).all()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"background": "constant"}, "alpha"),
        ({"classes": 1}, "classes"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong, name):
    with pytest.raises(ConfigError, match=name):
        crf.Config(**wrong)
