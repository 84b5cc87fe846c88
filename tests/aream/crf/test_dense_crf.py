from __future__ import annotations

import numpy as np
import pytest
import torch
from test_permutohedral import gaussian_sum, lattice_filter, pixel_features, smooth_image

from aream.crf.dense_crf import Config, DenseCRF, label_probabilities, with_background
from aream.errors import ConfigError, DataError

SMALL = Config(iterations=5, gaussian_sxy=2.0, bilateral_sxy=8.0, bilateral_srgb=20.0)


def mean_field(image: np.ndarray, probabilities: np.ndarray, config: Config, filter_) -> np.ndarray:
    """Krähenbühl and Koltun's algorithm 1 with Potts' model on whole kernel matrices, symmetrically normalised."""
    unary = -np.log(np.clip(probabilities.reshape(len(probabilities), -1), 1e-5, None)).T
    kernel = np.zeros((len(unary), len(unary)))
    for srgb, sxy, compat in (
        (None, config.gaussian_sxy, config.gaussian_compat),
        (config.bilateral_srgb, config.bilateral_sxy, config.bilateral_compat),
    ):
        matrix = filter_(pixel_features(image, sxy, srgb), np.eye(len(unary)))
        root = 1 / np.sqrt(matrix.sum(axis=1))
        kernel += compat * root[:, None] * matrix * root[None]
    posterior = np.exp(-unary) / np.exp(-unary).sum(axis=1, keepdims=True)
    for _ in range(config.iterations):
        energy = np.empty_like(unary)
        for label in range(unary.shape[1]):
            others = np.delete(posterior, label, axis=1).sum(axis=1)
            energy[:, label] = unary[:, label] + kernel @ others
        weights = np.exp(-(energy - energy.min(axis=1, keepdims=True)))
        posterior = weights / weights.sum(axis=1, keepdims=True)
    return posterior.T.reshape(probabilities.shape)


def blurred_object(height: int, width: int, classes: int) -> torch.Tensor:
    """Noisy probabilities of an object (channel 1) larger than the one in ``smooth_image``."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - width / 2 + 1, y - height / 2) / (min(height, width) / 3)
    logits = np.random.default_rng(2).normal(0, 0.7, (classes, height, width))
    logits[1] += 2 - 1.5 * distance
    return torch.from_numpy(logits).softmax(dim=0)


def as_image(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image) / 255


def test_mean_field_equals_whole_matrices_of_the_same_lattice():
    image, probabilities = smooth_image(9, 11), blurred_object(9, 11, 3)
    expected = mean_field(image, probabilities.numpy(), SMALL, lattice_filter)
    found = DenseCRF(SMALL).apply(as_image(image), probabilities)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    single = DenseCRF(SMALL).apply(as_image(image).float(), probabilities.float())
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-3)


def test_labels_agree_with_exact_gaussians():
    """On exact kernels instead of the lattice's, nearly all pixels get the same label; noise alone would not."""
    image, probabilities = smooth_image(24, 30), blurred_object(24, 30, 3)
    expected = mean_field(image, probabilities.numpy(), SMALL, gaussian_sum).argmax(axis=0)
    found = DenseCRF(SMALL).apply(as_image(image), probabilities).argmax(dim=0).numpy()

    assert (probabilities.argmax(dim=0).numpy() == expected).mean() < 0.9
    assert (found == expected).mean() > 0.98


def test_the_object_gets_the_shape_of_its_colour():
    image = smooth_image(40, 50)
    y, x = np.mgrid[:40, :50]
    inside = np.hypot(x - 25, y - 20) < 40 / 3
    found = DenseCRF().apply(as_image(image), blurred_object(40, 50, 2)).argmax(dim=0).numpy() == 1
    assert (found & inside).sum() / (found | inside).sum() > 0.95


def test_integers_and_floats_are_the_same_image():
    image = torch.randint(0, 256, (3, 12, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probabilities = blurred_object(12, 14, 3).float()
    crf = DenseCRF(SMALL)
    torch.testing.assert_close(
        crf.apply(image, probabilities), crf.apply(image / 255, probabilities), rtol=0, atol=1e-4
    )


def test_the_same_twice_to_the_bit_and_sums_to_one():
    image, probabilities = as_image(smooth_image(20, 20)).float(), blurred_object(20, 20, 4).float()
    once, again = (DenseCRF().apply(image, probabilities) for _ in range(2))
    assert torch.equal(once, again)
    torch.testing.assert_close(once.sum(dim=0), torch.ones(20, 20))


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (2, 3)])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_one_pixel_sides_and_one_class(size, classes):
    probabilities = torch.rand(classes, *size, generator=torch.Generator().manual_seed(0))
    found = DenseCRF().apply(torch.full((3, *size), 0.5), probabilities)
    assert found.shape == probabilities.shape
    torch.testing.assert_close(found.sum(dim=0), torch.ones(size))


def test_a_uniform_unary_stays_uniform_on_any_image():
    found = DenseCRF().apply(as_image(smooth_image(16, 16)), torch.full((4, 16, 16), 0.25))
    torch.testing.assert_close(found, torch.full_like(found, 0.25))


def test_on_a_constant_image_the_more_probable_class_takes_all():
    probabilities = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    probabilities[1] += 0.3
    found = DenseCRF().apply(torch.full((3, 16, 16), 0.2), probabilities)
    assert (found[1] > 0.9).all()


def test_without_kernels_scores_are_only_normalised():
    scores = torch.tensor([[[0.2, 0.0]], [[0.6, 0.5]]])
    found = DenseCRF(Config(gaussian_compat=0.0, bilateral_compat=0.0)).apply(torch.zeros(3, 1, 2), scores)
    torch.testing.assert_close(found, torch.tensor([[[0.25, 2e-5]], [[0.75, 1 - 2e-5]]]), rtol=1e-4, atol=0)


def test_hard_labels_are_right_with_gt_prob_and_unsure_ones_uniform():
    found = label_probabilities(torch.tensor([[0, 2, 255]]), 3, 0.7)
    expected = torch.tensor([[[0.7, 0.15, 1 / 3]], [[0.15, 0.15, 1 / 3]], [[0.15, 0.7, 1 / 3]]])
    torch.testing.assert_close(found, expected)


def test_unsure_pixels_take_the_label_of_like_colour():
    image = torch.zeros(3, 20, 20)
    image[:, :, 10:] = 1
    labels = torch.full((20, 20), 255)
    labels[:, :4], labels[:, 16:] = 0, 1
    crf = Config(bilateral_sxy=50.0, bilateral_srgb=5.0)
    found = DenseCRF(crf).apply(image, label_probabilities(labels, 2, crf.gt_prob)).argmax(dim=0)
    assert (found[:, :10] == 0).all()
    assert (found[:, 10:] == 1).all()


def test_background_scores():
    cams = torch.tensor([[[0.0, 0.5, 1.0]], [[0.2, 0.1, 0.3]]])
    torch.testing.assert_close(with_background(cams, 4.0)[0], torch.tensor([[0.8**4, 0.5**4, 0.0]]))
    torch.testing.assert_close(with_background(cams, 0.25, "constant")[0], torch.full((1, 3), 0.25))
    assert torch.equal(with_background(cams, 4.0)[1:], cams)


def test_scores_of_an_image_with_and_without_classes():
    image, cams = as_image(smooth_image(20, 24)).float(), blurred_object(20, 24, 3)[1:].float()
    crf = DenseCRF(SMALL)
    kernel = crf.kernel(image)
    assert torch.equal(crf.infer(kernel, with_background(cams[:0], 4.0)), torch.ones(1, 20, 24))
    more, less = (crf.infer(kernel, with_background(cams, alpha))[0].mean() for alpha in (1.0, 12.0))
    assert more > less


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_that_gives_no_background_is_refused(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        with_background(torch.rand(1, 2, 2), alpha)
    with pytest.raises(ConfigError, match="alpha"):
        with_background(torch.rand(1, 2, 2), 1.0, "constant")


def test_bad_input_is_refused_by_name():
    crf, image = DenseCRF(), torch.zeros(3, 4, 5)
    with pytest.raises(DataError, match="4x6 on an image of 4x5"):
        crf.infer(crf.kernel(image), torch.rand(2, 4, 6))
    with pytest.raises(DataError, match="finite"):
        crf.apply(image, torch.full((2, 4, 5), torch.nan))
    with pytest.raises(DataError, match="finite"):
        crf.apply(image + torch.nan, torch.rand(2, 4, 5))
    with pytest.raises(DataError, match="or 255, got 7"):
        label_probabilities(torch.full((4, 5), 7), 2, 0.7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"gaussian_sxy": 0.0},
        {"bilateral_sxy": -1.0},
        {"bilateral_srgb": float("inf")},
        {"gaussian_compat": -1.0},
        {"gt_prob": 1.0},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Config(**wrong)
