"""Thresholds without ground truth: counted in one pass, equal to what a loop over thresholds and pixels finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.errors import DataError
from aream.labels.label_free import RULES, UNITS, Contrast, SplitCounts, choices, edges, otsu
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch


def of_histogram(histogram) -> SplitCounts:
    counts = SplitCounts(len(histogram) - 1)
    counts.histogram[:] = torch.as_tensor(histogram)
    return counts


def contrast_of(image: np.ndarray) -> Contrast:
    return Contrast.of(torch.from_numpy(image))


def excess(image: np.ndarray, labels: np.ndarray) -> float:
    """Contrast across the boundary of a label map in excess of the image's mean, pair by pair."""
    pairs = []
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            for other in ((y, x + 1), (y + 1, x)):
                if other[0] < height and other[1] < width:
                    difference = (
                        sum(abs(float(a) - float(b)) for a, b in zip(image[y, x], image[other], strict=True)) / 3
                    )
                    pairs.append((difference, bool(labels[y, x]) != bool(labels[other])))
    mean = sum(difference for difference, _ in pairs) / len(pairs) if pairs else 0.0
    return sum(difference / mean - 1 for difference, boundary in pairs if boundary) if mean else 0.0


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5), height=st.integers(1, 4), width=st.integers(1, 4))
def test_edges_against_a_loop_over_thresholds_and_pairs(seed, steps, height, width):
    rng = np.random.default_rng(seed)
    counts = SplitCounts(steps)
    expected = np.zeros(steps)
    for _ in range(2):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        levels = rng.integers(0, steps + 1, (height, width)).astype(np.uint8)
        counts.add(torch.from_numpy(levels), contrast_of(image))
        expected += [excess(image, levels > index) for index in range(steps)]
    np.testing.assert_allclose(np.cumsum(counts.steps.numpy() / UNITS)[:-1], expected, atol=1e-4)
    if counts.steps.any():
        assert expected[edges(counts)] == pytest.approx(expected.max(), abs=1e-4)
    else:
        np.testing.assert_allclose(expected, 0, atol=1e-4)
        with pytest.raises(DataError, match="edges"):
            edges(counts)


def test_a_constant_image_has_no_edges_and_one_pixel_neither():
    flat = contrast_of(np.full((3, 4, 3), 7, dtype=np.uint8))
    assert not flat.right.any()
    assert not flat.down.any()
    single = contrast_of(np.zeros((1, 1, 3), dtype=np.uint8))
    assert single.right.shape == (1, 0)
    assert single.down.shape == (0, 1)


def test_without_images_there_are_no_edges_to_choose_by():
    levels = np.random.default_rng(0).integers(0, 9, (5, 5)).astype(np.uint8)
    counts = SplitCounts(8)
    counts.add(torch.from_numpy(levels), None)
    with pytest.raises(DataError, match="edges: no boundary"):
        edges(counts)
    assert set(choices(counts)) == {"otsu"}


def test_edges_find_the_threshold_that_follows_the_object_where_scores_do_not_split():
    """The score falls evenly away from a disc's centre: no valley, but the image has an edge."""
    y, x = np.mgrid[:40, :40]
    distance = np.hypot(y - 20, x - 20)
    image = np.where(distance < 9, 200, 60)[..., None].repeat(3, axis=2).astype(np.uint8)
    levels = np.clip(30 - distance, 0, 30).astype(np.uint8)  # the disc is what has 22 or more
    counts = SplitCounts(30)
    counts.add(torch.from_numpy(levels), contrast_of(image))
    assert abs(edges(counts) - 21) <= 1
    assert abs(otsu(counts) - 21) > 3


def test_otsu_splits_two_peaks():
    histogram = np.zeros(80, dtype=np.int64)
    histogram[5:15], histogram[60:70] = 100, 40
    assert 14 <= otsu(of_histogram(histogram)) < 60


@pytest.mark.parametrize("name", list(RULES))
def test_of_nothing_no_rule_picks_a_threshold(name):
    with pytest.raises(DataError, match=name):
        RULES[name].choose(SplitCounts(9))
    assert choices(SplitCounts(9)) == {}


@pytest.mark.parametrize("name", list(RULES))
def test_scores_that_are_all_alike_split_nowhere(name):
    counts = SplitCounts(9)
    image = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    counts.add(torch.full((4, 4), 3, dtype=torch.uint8), contrast_of(image))
    with pytest.raises(DataError, match=name):
        RULES[name].choose(counts)


def searched(rule, seed: int = 0):
    """A choice on discs that scores and images show."""
    rng = np.random.default_rng(seed)
    config = LabelsConfig(background_threshold=rule)
    search = ThresholdSearch(config.grid(), 3)
    y, x = np.mgrid[:20, :20]
    for number in range(12):  # of which the last is held out
        disc = np.hypot(y - rng.integers(6, 14), x - rng.integers(6, 14)) < 5
        scores = (0.15 + 0.5 * disc)[None].astype(np.float32)
        mask = np.where(disc, 1 + number % 2, 0).astype(np.uint8)
        image = (mask[..., None].repeat(3, axis=2) * 80).astype(np.uint8)
        scores, mask = torch.from_numpy(scores), torch.from_numpy(mask)
        search.add(f"image{number}", scores, [1 + number % 2], mask, contrast_of(image))
    return search.choose(config, [0, 1, 2])


@pytest.mark.parametrize("rule", ["auto", "held_out", "otsu", "edges", 0.3, 0.3001, 0.999])
def test_every_rule_is_reported_whichever_is_used(rule):
    choice = searched(rule)
    alternatives = choice.alternatives()
    assert set(alternatives) == {"search", "otsu", "edges"}
    assert alternatives["search"] == max(choice.curve) >= choice.miou
    for name, index in choice.label_free.items():
        assert alternatives[name] == choice.curve[index]
        assert 0.15 <= choice.thresholds[index] < 0.65  # between background and disc
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


def unmasked(rule, masks: int = 0):
    """Discs that only scores and images show; ``masks`` of them have a mask, all ignored."""
    config = LabelsConfig(background_threshold=rule)
    search = ThresholdSearch(config.grid(), 3)
    y, x = np.mgrid[:20, :20]
    disc = np.hypot(y - 9, x - 9) < 5
    image = (disc[..., None].repeat(3, axis=2) * 80).astype(np.uint8)
    for number in range(4):
        mask = torch.full((20, 20), 255, dtype=torch.uint8) if number < masks else None
        scores = torch.from_numpy((0.15 + 0.5 * disc)[None].astype(np.float32))
        search.add(f"image{number}", scores, [1], mask, contrast_of(image))
    return search.choose(config, [0, 1, 2])


@pytest.mark.parametrize("rule", ["otsu", "edges", 0.3])
def test_rules_without_ground_truth_need_no_masks_and_then_report_no_figure(rule):
    choice = unmasked(rule)
    assert 0.15 <= choice.threshold < 0.65
    assert (choice.miou, choice.miou_all, choice.curve, choice.alternatives()) == (None, None, [], {})


@pytest.mark.parametrize("rule", ["auto", "held_out"])
def test_a_search_without_masks_is_refused_and_says_what_needs_none(rule):
    with pytest.raises(DataError, match="otsu, edges or a number needs no masks"):
        unmasked(rule)


@pytest.mark.parametrize("rule", ["auto", "held_out", "otsu", 0.3])
def test_masks_in_which_nothing_counts_make_no_figure(rule):
    with pytest.raises(DataError, match="which has none"):
        unmasked(rule, masks=2)
