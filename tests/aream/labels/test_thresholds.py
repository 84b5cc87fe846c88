from __future__ import annotations

import re

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.errors import ConfigError
from aream.labels.label_free import Contrast
from aream.labels.pseudo_labels import LabelsConfig, LevelMap, ThresholdSearch
from aream.labels.thresholds import ScoreLevels, ThresholdCounts

THRESHOLDS = np.round(np.arange(0, 0.6, 0.05), 6)


@settings(max_examples=40)
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
    counts, levels = ThresholdCounts(4, len(THRESHOLDS)), ScoreLevels(THRESHOLDS.astype(np.float32))
    for scores, ids, target in images:
        found = LevelMap.of(torch.from_numpy(scores), ids, levels)
        counts.add(found.classes, found.levels, torch.from_numpy(target))
    expected = oracles.threshold_confusions(images, THRESHOLDS.astype(np.float32), 4)
    np.testing.assert_array_equal(counts.confusions(), expected)


def test_counts_beyond_32_bits():
    """81 classes, after as many pixels as COCO's train images have."""
    before = 25 * 10**9
    counts = ThresholdCounts(81, len(THRESHOLDS))
    counts.counts[80, 80, :] = before
    shown = torch.full((4, 5), 80, dtype=torch.uint8)
    counts.add(shown, torch.full((4, 5), 10, dtype=torch.uint8), shown)
    confusions = counts.confusions()
    assert confusions[0, 80, 80] == len(THRESHOLDS) * before + 20
    assert confusions[0, 80, 0] == before
    assert confusions.sum(axis=(1, 2)).tolist() == [(len(THRESHOLDS) + 1) * before + 20] * len(THRESHOLDS)


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"thresholds": (0.1, 0.9, 0.3)}, "got 4 from 0.1 to 1"),
        ({"thresholds": (0.1, 0.11, 0.0001)}, "got 101 from 0.1 to 0.11"),
        ({"background_threshold": 0.99999999}, "got 80 from 0.01 to 1"),
    ],
)
def test_thresholds_that_cannot_be_counted_are_refused_before_anything_is_trained(settings, got):
    with pytest.raises(
        ConfigError, match=re.escape(f"need at most 255 in [0, 1), ascending by more than 1/4096; {got}")
    ):
        LabelsConfig(**settings)


@pytest.mark.gpu
def test_a_gpu_counts_what_a_cpu_counts():
    generator = torch.Generator().manual_seed(0)
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        search = ThresholdSearch(LabelsConfig().grid(), 4, device)
        for number in range(6):
            generator.manual_seed(number)
            scores = torch.rand(2, 30, 40, generator=generator)
            mask = torch.randint(0, 4, (30, 40), generator=generator, dtype=torch.uint8)
            image = torch.randint(0, 256, (30, 40, 3), generator=generator, dtype=torch.uint8)
            contrast = Contrast.of(image.to(device))
            levels = search.add(f"image{number}", scores.to(device), [1, 3], mask.to(device), contrast)
        counted = (search.held_out.counts, search.rest.counts, search.split.histogram, search.split.steps)
        found.append([part.cpu() for part in (*counted, levels.classes, levels.levels)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert torch.equal(on_cpu, on_gpu)
