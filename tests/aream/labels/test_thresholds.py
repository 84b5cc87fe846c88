from __future__ import annotations

import numpy as np
import oracles
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.labels.thresholds import ThresholdCounts

THRESHOLDS = np.round(np.arange(0, 0.6, 0.05), 6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), present=st.integers(0, 3))
def test_every_threshold_is_that_of_the_plain_loop(seed, present):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(2):
        ids = sorted(rng.choice(np.arange(1, 4), size=present, replace=False).tolist())
        # Scores on the thresholds themselves and equal between classes: ties must go to the background, then the first.
        scores = rng.choice(THRESHOLDS.astype(np.float32), (present, 4, 5)) + rng.choice(
            np.array([0, 1e-3], dtype=np.float32), (present, 4, 5)
        )
        images.append((scores.astype(np.float32), ids, rng.choice([0, 1, 2, 3, 255], (4, 5)).astype(np.uint8)))
    counts = ThresholdCounts(4, THRESHOLDS)
    for scores, ids, target in images:
        counts.add(scores, ids, target)
    expected = oracles.threshold_confusions(images, THRESHOLDS.astype(np.float32), 4)
    np.testing.assert_array_equal(counts.confusions(), expected)


def test_counts_beyond_32_bits():
    """81 classes, after as many pixels as COCO's train images have."""
    before = 25 * 10**9
    counts = ThresholdCounts(81, THRESHOLDS)
    counts.counts[80, 80, :] = before
    counts.add(np.full((1, 4, 5), 0.5, dtype=np.float32), [80], np.full((4, 5), 80, dtype=np.uint8))
    confusions = counts.confusions()
    assert confusions[0, 80, 80] == len(THRESHOLDS) * before + 20
    assert confusions[0, 80, 0] == before
    assert confusions.sum(axis=(1, 2)).tolist() == [(len(THRESHOLDS) + 1) * before + 20] * len(THRESHOLDS)
