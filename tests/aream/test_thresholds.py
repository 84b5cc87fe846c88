from __future__ import annotations

import numpy as np
import oracles
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.thresholds import ThresholdCounts

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
