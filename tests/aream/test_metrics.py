from __future__ import annotations

import numpy as np
import oracles
import pytest
from sklearn.metrics import average_precision_score

from aream.errors import DataError
from aream.metrics import (
    class_iou,
    confusion_matrix,
    counted_classes,
    mean_average_precision,
    mean_iou,
    pixel_accuracy,
)


def test_confusion_matrix_against_a_loop():
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, 4, (7, 9)).astype(np.uint8)
    target = rng.choice([0, 1, 2, 3, 255], (7, 9)).astype(np.uint8)
    np.testing.assert_array_equal(confusion_matrix(prediction, target, 4), oracles.confusion(prediction, target, 4))


def test_counts_beyond_32_bits():
    huge = np.array([[6_000_000_000, 3_000_000_000], [0, 9_000_000_000]], dtype=np.int64)
    np.testing.assert_allclose(class_iou(huge), [6 / 9, 9 / 12])


def test_the_pixels_of_coco_are_counted():
    """82,081 images of 0.3 megapixels: one counter goes far beyond 32 bits."""
    image = np.ones((480, 640), dtype=np.uint8)
    image[0, 0] = 0
    one = confusion_matrix(image, image, 81)
    total = one * 82_081
    assert total.dtype == np.int64
    assert total[1, 1] == (480 * 640 - 1) * 82_081 > 2**34
    assert mean_iou(total) == pytest.approx(1.0)


def test_absent_classes_are_skipped_or_count_as_zero():
    confusion = np.diag([10, 10, 0]).astype(np.int64)
    confusion[0, 2] = 10  # predicted, but never there
    assert mean_iou(confusion, absent="skip") == pytest.approx((0.5 + 1.0) / 2)
    assert mean_iou(confusion, absent="zero") == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert counted_classes(confusion) == 2
    assert counted_classes(confusion, [1, 2]) == 1
    assert np.isnan(class_iou(np.zeros((2, 2), dtype=np.int64))).all()


def test_all_ignored_image_counts_nothing():
    ignored = np.full((3, 3), 255, dtype=np.uint8)
    assert confusion_matrix(np.zeros_like(ignored), ignored, 3).sum() == 0
    with pytest.raises(DataError, match="which has none"):
        mean_iou(np.zeros((3, 3), dtype=np.int64))


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_a_mean_over_one_class_is_refused(absent):
    """All background, and a segmenter that says so: 1.0 of nothing."""
    confusion = np.diag([50, 0, 0]).astype(np.int64)
    with pytest.raises(DataError, match=r"needs pixels of 2 of them in the ground truth, which has \[0\]"):
        mean_iou(confusion, absent=absent)
    with pytest.raises(DataError, match=r"mask ids \[1\]"):
        mean_iou(np.diag([50, 50, 50]).astype(np.int64), [1], absent)


def test_pixel_accuracy_against_a_loop():
    rng = np.random.default_rng(1)
    prediction = rng.integers(0, 4, (7, 9)).astype(np.uint8)
    target = rng.choice([0, 1, 2, 3, 255], (7, 9)).astype(np.uint8)
    pairs = [(p, t) for p, t in zip(prediction.flat, target.flat, strict=True) if t != 255]
    expected = sum(p == t for p, t in pairs) / len(pairs)
    assert pixel_accuracy(confusion_matrix(prediction, target, 4)) == pytest.approx(expected)
    with pytest.raises(DataError, match="no pixel of any mask is counted"):
        pixel_accuracy(np.zeros((2, 2), dtype=np.int64))


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_mean_average_precision_against_sklearn_with_ties(decimals):
    rng = np.random.default_rng(2)
    scores = np.round(rng.normal(size=(40, 5)), decimals).astype(np.float32)
    labels = rng.integers(0, 2, (40, 5)).astype(np.float32)
    labels[:, 3] = 0  # a class without a positive is left out
    expected = np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in (0, 1, 2, 4)])
    assert mean_average_precision(scores, labels) == pytest.approx(expected)


def test_a_mean_average_precision_of_no_label_is_refused():
    with pytest.raises(DataError, match="none of 3 images has any of the classes"):
        mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2)))
