"""The images that a report shows."""

from __future__ import annotations

import numpy as np

from orchestrator.reporting.examples import chosen, compared_with


def scores(**means):
    return {name: np.array([mean, np.nan, mean]) for name, mean in means.items()}


def kinds(best, other=None):
    found = {}
    for example in chosen(best, other):
        found.setdefault(example.kind, []).append(example.image_id)
    return found


def test_best_median_and_worst_each_once():
    best = scores(a=0.1, b=0.9, c=0.5, d=0.8, e=0.2, f=0.4)
    assert kinds(best) == {"best": ["b", "d"], "median": ["c", "f"], "worst": ["a", "e"]}


def test_few_images_are_shown_once():
    assert kinds(scores(a=0.5)) == {"best": ["a"]}
    assert chosen({}, {}) == []


def test_images_that_tell_two_configurations_apart():
    best = scores(**{f"i{n:02d}": 0.05 * n for n in range(12)})
    other = {**best, "i03": best["i03"] + 0.4, "i08": best["i08"] - 0.2}
    assert kinds(best, other)["differ"] == ["i03", "i08"]
    del other["i03"]
    assert kinds(best, other)["differ"] == ["i08"]
    assert "differ" not in kinds(best, best)


def test_the_other_one_is_the_first_that_is_told_from_the_best():
    ranking = [{}] * 4
    assert compared_with({"ranking": ranking, "answer": {"ties": {"positions": [0, 1]}}}) == 2
    assert compared_with({"ranking": ranking, "answer": {"ties": {"positions": [0, 1, 2, 3]}}}) == 1
    assert compared_with({"ranking": ranking}) == 1
    assert compared_with({"ranking": ranking[:1]}) is None
