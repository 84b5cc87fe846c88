"""What a worker is told of a grid's trial is all that the grid has of it."""

from __future__ import annotations

from sweep_results import planner

from orchestrator.search.searchers import ListedPoints, planned

METHODS = """axes={method: {grid: [{name: acr}, {name: acr, localisation: host}, mean_affinity]},
 inference.layers: {grid: [none, all]}}"""


def test_points_that_share_a_training_keep_their_variants(tmp_path):
    plan = planner(tmp_path, METHODS, "where=[]", "seeds=[0, 1]")
    trials = plan.grid()
    assert [len(trial.variants) for trial in trials] == [4, 4, 2, 2]
    points = ListedPoints(trials)
    for trial in trials:
        assert planned(plan, points.suggest("any")) == trial
    assert points.suggest("any") == ListedPoints.FINISHED
