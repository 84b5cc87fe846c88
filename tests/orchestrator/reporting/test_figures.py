"""The pictures of results of every size: they are drawn, have a bounded size, and leave out what says nothing."""

from __future__ import annotations

import csv

import pytest
import sweep_results
from PIL import Image
from sweep_content import content

from orchestrator.reporting.figures.protocol import FigureInput, draw_figures


@pytest.fixture
def store(tmp_path):
    return sweep_results.workspace(sweep_results.planner(tmp_path)).store()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, set()),
        (1, set()),
        (2, {"pareto", "parallel"}),
        (12, {"pareto", "parallel", "importance", "alphas"}),
        (300, {"pareto", "parallel", "importance", "alphas"}),
    ],
)
def test_results_of_every_size(tmp_path, store, count, expected):
    drawn = draw_figures(FigureInput(content(count), store), tmp_path / "figures")
    names = {path.stem for path, _ in drawn}
    assert names >= expected
    assert names <= expected | {"alphas"}
    for path, caption in drawn:
        with Image.open(path) as picture:
            assert max(picture.size) < 2500
            assert picture.convert("L").getextrema()[0] < 128
        assert caption


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path, store):
    first = draw_figures(FigureInput(content(20), store), tmp_path / "a")
    second = draw_figures(FigureInput(content(20), store), tmp_path / "b")
    assert [path.name for path, _ in first] == [path.name for path, _ in second]
    for (one, _), (other, _) in zip(first, second, strict=True):
        for kind in (".png", ".svg", ".pdf", ".csv"):
            assert one.with_suffix(kind).read_bytes() == other.with_suffix(kind).read_bytes()


@pytest.mark.slow
def test_constant_metrics_absent_axes_and_missing_values(tmp_path, store):
    made = content(12)
    for entry in made["ranking"]:
        entry["metrics"] = {"pseudo/miou": 0.5, "cost/seconds": 1.0}
        entry["config"].pop("train.lr")
    made["importance"] = {"left_out": "same"}
    made["pareto"]["front"] = list(range(12))
    names = {path.stem for path, _ in draw_figures(FigureInput(made, store), tmp_path / "a")}
    assert names >= {"pareto", "parallel"}
    assert "importance" not in names
    for entry in made["ranking"][:11]:
        entry["metrics"] = {}
    made["pareto"]["front"] = [11]
    assert {path.stem for path, _ in draw_figures(FigureInput(made, store), tmp_path / "b")} <= {"alphas"}


@pytest.mark.slow
def test_three_objectives(tmp_path, store):
    made = content(12)
    made["pareto"]["objectives"].append({"metric": "val/map", "mode": "max"})
    assert "pareto" in {path.stem for path, _ in draw_figures(FigureInput(made, store), tmp_path / "a")}


@pytest.mark.slow
def test_an_alpha_grid_is_a_heat_map_and_a_search_is_points(tmp_path, store):
    made = content(100)
    for index, entry in enumerate(made["ranking"]):
        entry["config"] |= {"method.alpha_low": [0.1, 0.2][index % 2], "method.alpha_high": [0.5, 0.6, 0.7][index % 3]}
    grid = dict((path.stem, path) for path, _ in draw_figures(FigureInput(made, store), tmp_path / "a"))["alphas"]
    points = dict((path.stem, path) for path, _ in draw_figures(FigureInput(content(100), store), tmp_path / "b"))[
        "alphas"
    ]
    with Image.open(grid) as first, Image.open(points) as second:
        assert first.size != second.size


@pytest.mark.slow
def test_damaged_labels_cost_a_curve_and_not_the_report(tmp_path):
    plan = sweep_results.planner(tmp_path)
    place = sweep_results.workspace(plan)
    sweep_results.compute(place.store(), plan.grid(), sweep_results.alpha_score)
    summary, _ = sweep_results.summarised(plan)
    drawn = {path.stem for path, _ in draw_figures(FigureInput(summary, place.store()), tmp_path / "a")}
    assert {"threshold_curves", "training"} <= drawn
    for entry in summary["ranking"]:
        for key in (*entry["label_artifacts"].values(), *entry["trial_keys"]):
            place.store().discard(key)
    assert not {"threshold_curves", "training"} & {
        path.stem for path, _ in draw_figures(FigureInput(summary, place.store()), tmp_path / "b")
    }


@pytest.mark.slow
def test_what_was_never_compared_has_no_difference(tmp_path, store):
    def pair(value, over, mean):
        return {"value": value, "over": over, "mean": mean, "half": 0.01, "seeds": 3, "better": 3, "beyond": True}

    effect = {"axis": "method.name", "values": ["a", "b", "c"], "reference": "c", "pairs": [pair("a", "c", 0.1)]}
    made = content(12, answer={"effects": [effect], "ties": {"seeds": 3, "positions": [0], "least": 0.1}})
    drawn = {path.stem: path for path, _ in draw_figures(FigureInput(made, store), tmp_path / "figures")}
    with drawn["effects"].with_suffix(".csv").open(newline="") as file:
        rows = {row["value"]: row["difference in pseudo/miou"] for row in csv.DictReader(file)}
    assert rows == {"a": "0.1", "b": "", "c": "0.0"}
