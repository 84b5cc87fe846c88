from __future__ import annotations

import json

import pytest

from orchestrator.axes import parse_axis
from orchestrator.search import SearchedPoints

SECTIONS = ("method", "train")
AXES = [
    parse_axis("method.alpha_low", {"uniform": [0.1, 0.9]}, SECTIONS),
    parse_axis("method.alpha_high", {"uniform": [0.1, 0.9]}, SECTIONS),
    parse_axis("train.lr", {"loguniform": [1e-5, 1e-2]}, SECTIONS),
    parse_axis("method.layer_index", {"int": [1, 5]}, SECTIONS),
    parse_axis("method.fusion_layers", {"choice": ["all", [0, 1]]}, SECTIONS),
]


def ordered(values):
    return values["method.alpha_low"] < values["method.alpha_high"]


def search(tmp_path, *, trials=6, seeds=(0,), axes=AXES, allowed=ordered, seed=0):
    return SearchedPoints(
        axes, allowed, seeds, trials,
        algorithm="tpe", metric="m", mode="max", seed=seed, log_file=tmp_path / "search.jsonl",
    )  # fmt: skip


def play(searcher, score, limit=1000):
    """Suggest and finish one after the other; returns what was suggested."""
    seen = []
    for number in range(limit):
        point = searcher.suggest(f"t{number}")
        if not isinstance(point, dict):
            return seen
        seen.append(point)
        searcher.on_trial_complete(f"t{number}", {"m": score(point)})
    raise AssertionError("the search does not end")


def test_every_point_keeps_the_constraint_and_its_range(tmp_path):
    points = play(search(tmp_path, trials=40), lambda point: 0.0)
    assert len(points) == 40
    for point in points:
        values = point["values"]
        assert ordered(values)
        assert 1e-5 <= values["train.lr"] <= 1e-2
        assert values["method.layer_index"] in range(1, 6)
        assert values["method.fusion_layers"] in ("all", [0, 1])


def test_each_point_is_repeated_for_every_seed(tmp_path):
    points = play(search(tmp_path, trials=3, seeds=(0, 5)), lambda point: 0.0)
    assert [point["seed"] for point in points] == [0, 5] * 3
    assert points[0]["values"] == points[1]["values"] != points[2]["values"]


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path):
    def score(point):
        return -((point["values"]["method.alpha_low"] - 0.3) ** 2)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = play(search(whole, trials=14), score)
    first = search(broken, trials=14)
    for number in range(12):
        point = first.suggest(f"t{number}")
        first.on_trial_complete(f"t{number}", {"m": score(point)})
    log = broken / "search.jsonl"
    log.write_text(log.read_text() + '{"method.alpha_low": 0.2, "meth')  # the driver died while it wrote
    resumed = play(search(broken, trials=14), score)
    assert resumed[:12] == expected[:12]
    assert len(resumed) == 14
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == [point["values"] for point in resumed]


@pytest.mark.parametrize("finished", [1, 3])
def test_no_point_is_drawn_twice_after_a_restart(tmp_path, finished):
    first = search(tmp_path, trials=8)
    for number in range(finished):
        first.suggest(f"t{number}")
    points = play(search(tmp_path, trials=8), lambda point: 0.0)
    assert len({json.dumps(point["values"]) for point in points}) == 8


def test_it_learns(tmp_path):
    """Later points lie nearer the optimum than the first, random ones."""

    def miss(point):
        return abs(point["values"]["method.alpha_low"] - 0.3)

    points = play(search(tmp_path, trials=60, axes=AXES[:1], allowed=lambda values: True), lambda p: -miss(p))
    early, late = points[:10], points[-20:]
    assert sum(map(miss, late)) / 20 < sum(map(miss, early)) / 10


def test_failed_and_pruned_points_do_not_stop_it(tmp_path):
    searcher = search(tmp_path, trials=4)
    for number in range(4):
        assert isinstance(searcher.suggest(f"t{number}"), dict)
        searcher.on_trial_complete(f"t{number}", {"epoch": 1} if number % 2 else None, error=number % 2 == 0)
    assert searcher.suggest("t4") == "FINISHED"


def test_a_constraint_nothing_can_meet_ends_with_a_reason(tmp_path):
    with pytest.raises(RuntimeError, match="where"):
        search(tmp_path, allowed=lambda values: False).suggest("t0")
