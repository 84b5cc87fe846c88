"""Which labels of a ranking train a segmenter."""

from __future__ import annotations

import pytest
import sweep_results

from orchestrator.monitor.forecast import expected_tasks
from orchestrator.results.segmentation_jobs import selected
from orchestrator.spec.reader import SpecError, load_spec


def chosen(tmp_path, select: str) -> list[tuple[int, float, object]]:
    """Position, alpha and layers; ranked are layers first, then alphas downwards."""
    plan = sweep_results.planner(tmp_path, more=f"segmentation: {{select: {select}}}")
    trials = plan.grid()
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, trials, sweep_results.alpha_score)
    assert plan.spec.segmentation is not None
    found = selected(plan.spec, plan.spec.segmentation.select, sweep_results.ranked(plan, store))
    assert expected_tasks(plan.spec) == {"segmentation": len(found) * len(plan.spec.seeds)}
    return [(position, e.config["method.alpha_low"], e.config["inference.layers"]) for position, e in found]


def test_the_best_of_the_whole_ranking(tmp_path):
    assert chosen(tmp_path, "{top: 2}") == [(0, 0.4, "none"), (1, 0.3, "none")]


def test_the_best_of_each_value(tmp_path):
    assert chosen(tmp_path, "{of_each: [inference.layers]}") == [
        (0, 0.4, "none"),
        (3, 0.4, "all"),
        (6, 0.4, "shallow"),
        (9, 0.4, [0, 3]),
    ]
    assert chosen(tmp_path, "{top: 2, of_each: [method.alpha_low]}") == [
        (0, 0.4, "none"),
        (1, 0.3, "none"),
        (2, 0.2, "none"),
        (3, 0.4, "all"),
        (4, 0.3, "all"),
        (5, 0.2, "all"),
    ]


def test_the_best_of_each_combination(tmp_path):
    assert len(chosen(tmp_path, "{of_each: [method.alpha_low, inference.layers]}")) == 12


def test_a_key_of_one_value_or_of_no_axis_is_one_group(tmp_path):
    assert chosen(tmp_path, "{of_each: [method.name]}") == [(0, 0.4, "none")]


def test_a_range_is_refused(tmp_path):
    more = "segmentation: {select: {of_each: [method.alpha_high]}}\nsearch: {trials: 5}"
    path = tmp_path / "grid.yaml"
    text = sweep_results.GRID.format(runs=tmp_path, more=more)
    path.write_text(
        text.replace("  inference.layers", "  method.alpha_high: {uniform: [0.5, 0.6]}\n  inference.layers")
    )
    with pytest.raises(SpecError, match=r"method\.alpha_high: a range has no values"):
        load_spec(path, ())


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("{of_each: [method.beta]}", "segmentation.select.of_each: method.beta: no such key"),
        ("{of_each: [method.name, method.name]}", "of_each: need different keys"),
    ],
)
def test_a_key_that_groups_nothing_is_refused(tmp_path, select, message):
    path = tmp_path / "grid.yaml"
    path.write_text(sweep_results.GRID.format(runs=tmp_path, more=f"segmentation: {{select: {select}}}"))
    with pytest.raises(SpecError, match=message):
        load_spec(path, ())
