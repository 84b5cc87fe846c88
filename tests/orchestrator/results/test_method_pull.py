"""A sweep whose method could not act, or drowned the host's own loss, says so."""

from __future__ import annotations

import itertools

import pytest
from sweep_results import alpha_score, compute, planner, summarised, workspace

from orchestrator.reporting.terminal import print_results
from orchestrator.results.method_pull import pull_remarks


@pytest.mark.parametrize(
    ("pulls", "idle", "strong"),
    [([0.3, 0.01, 1.0], 0, 0), ([0.0, 0.009, 0.3], 2, 0), ([1.01, 0.3], 0, 1), ([0.002, 4.0], 1, 1), ([], 0, 0)],
)
def test_what_is_said_of_pulls(pulls, idle, strong):
    said = pull_remarks([*({"train/method_gradient": pull} for pull in pulls), {"val/map": 0.5}])
    assert [line for line in said if "next to nothing" in line] == [
        line for line in said if f"next to nothing in {idle} of {len(pulls)} trainings" in line
    ]
    assert any("next to nothing" in line for line in said) == bool(idle)
    assert any(f"took over in {strong} of {len(pulls)} trainings" in line for line in said) == bool(strong)


@pytest.mark.slow
def test_the_summary_counts_every_training_once(tmp_path, capsys):
    plan = planner(tmp_path)
    pulls = itertools.count()
    compute(
        workspace(plan).store(),
        plan.grid(),
        alpha_score,
        training=lambda trial: {"train/method_gradient": 0.001 if next(pulls) == 0 else 0.2},
    )
    content, folder = summarised(plan)
    trainings = len({trial.key for trial in plan.grid()})
    assert trainings > 1
    said = f"the method's loss did next to nothing in 1 of {trainings} trainings"
    assert len([line for line in content["remarks"] if line.startswith(said)]) == 1
    print_results(content)
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (folder / "report.md").read_text()
