"""Thresholds without ground truth: counted in one pass, equal to what a loop over thresholds and pixels finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.label_free import RULES, SplitCounts, agreement, kappa_curve, otsu
from aream.pseudo_labels import LabelsConfig, ThresholdSearch


def counted(images, classes: int, thresholds: int) -> SplitCounts:
    counts = SplitCounts(classes, thresholds)
    for image in images:
        counts.add(*image)
    return counts


def of_histogram(histogram) -> SplitCounts:
    counts = SplitCounts(2, len(histogram) - 1)
    counts.refined[1] = histogram
    return counts


def kappa_of(first: list[int], second: list[int]) -> float:
    """Cohen's kappa of two labellings, from its definition."""
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    expected = sum(first.count(label) * second.count(label) for label in set(first) | set(second)) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5))
def test_agreement_against_a_loop_over_thresholds_and_pixels(seed, steps):
    rng = np.random.default_rng(seed)
    images = [
        tuple(rng.integers(low, high, (3, 4)).astype(np.uint8) for low, high in ((1, 4), (0, steps + 1)) * 2)
        for _ in range(2)
    ]
    expected = []
    for index in range(steps):
        labels: tuple[list[int], list[int]] = ([], [])
        for classes, levels, plain_classes, plain_levels in images:
            labels[0].extend(np.where(levels > index, classes, 0).ravel().tolist())
            labels[1].extend(np.where(plain_levels > index, plain_classes, 0).ravel().tolist())
        expected.append(kappa_of(*labels))
    counts = counted(images, 4, steps)
    found = kappa_curve(counts)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert expected[agreement(counts)] == pytest.approx(max(expected))


def test_maps_that_are_all_background_or_all_object_do_not_agree_beyond_chance():
    classes = np.ones((2, 2), dtype=np.uint8)
    levels = np.full((2, 2), 2, dtype=np.uint8)
    plain = np.array([[2, 2], [2, 1]], dtype=np.uint8)
    found = kappa_curve(counted([(classes, levels, classes, plain)], 2, 3))
    assert found is not None
    assert found.tolist() == [0.0, 0.0, 0.0]  # all object; one map has one value; all background


def test_without_refinement_agreement_is_otsu():
    rng = np.random.default_rng(0)
    classes, levels = np.ones((5, 5), dtype=np.uint8), rng.integers(0, 9, (5, 5)).astype(np.uint8)
    same = counted([(classes, levels, classes, levels)], 2, 8)
    alone = counted([(classes, levels)], 2, 8)
    assert agreement(same) == agreement(alone) == otsu(same) == otsu(alone)


def test_otsu_splits_two_peaks():
    histogram = np.zeros(80, dtype=np.int64)
    histogram[5:15], histogram[60:70] = 100, 40
    assert 14 <= otsu(of_histogram(histogram)) < 60


def test_of_nothing_every_rule_picks_the_first_threshold():
    assert [rule.choose(SplitCounts(3, 9)) for rule in RULES.values()] == [0] * len(RULES)


def searched(rule, seed: int = 0):
    """A choice on noisy discs, with and without the noise as what refinement takes away."""
    rng = np.random.default_rng(seed)
    config = LabelsConfig(background_threshold=rule)
    search, before = (ThresholdSearch(config, 3, [0, 1, 2]) for _ in range(2))
    y, x = np.mgrid[:20, :20]
    for number in range(6):
        disc = np.hypot(y - rng.integers(6, 14), x - rng.integers(6, 14)) < 5
        scores = (0.15 + 0.5 * disc)[None].astype(np.float32)
        noisy = (scores + rng.normal(0, 0.12, scores.shape)).clip(0, 0.99).astype(np.float32)
        mask = np.where(disc, 1 + number % 2, 0).astype(np.uint8)
        plain = before.add(f"image{number}", noisy, [1 + number % 2], mask)
        search.add(f"image{number}", scores, [1 + number % 2], mask, plain)
    return search.choose()


@pytest.mark.parametrize("rule", ["auto", "held_out", "otsu", "agreement", 0.3, 0.3001, 0.999])
def test_every_rule_is_reported_whichever_is_used(rule):
    choice = searched(rule)
    alternatives = choice.alternatives()
    assert set(alternatives) == {"search", "otsu", "agreement"}
    assert alternatives["search"] == max(choice.curve) >= choice.miou
    for name, index in choice.label_free.items():
        assert alternatives[name] == choice.curve[index]
        assert 0.15 < choice.thresholds[index] < 0.65  # between background and disc
        if name == rule:
            assert choice.miou == choice.curve[index]
    if not isinstance(rule, str):
        assert choice.threshold == pytest.approx(rule)


def test_a_number_near_a_counted_threshold_takes_its_place():
    grid = LabelsConfig(background_threshold=0.3001).grid()
    assert 0.3001 in grid
    assert 0.3 not in grid
    assert len(grid) == len(LabelsConfig().grid())
    assert len(dataclasses.replace(LabelsConfig(), background_threshold=0.305).grid()) == len(grid) + 1
