"""What other code, another torch or another device computed is said, at plan time and with the results."""

from __future__ import annotations

import dataclasses
import json

import pytest
import sweep_results

from orchestrator import sweep
from orchestrator.results.origins import by_other_code, mixed, origins
from orchestrator.results.records import RememberedRecords
from workers.stage_source import source_digest


@pytest.fixture
def plan(tmp_path):
    return sweep_results.planner(tmp_path)


class Changed:
    """Records with other origins for the stages of some trials."""

    def __init__(self, store, keys, change):
        self.store, self.keys, self.change = store, keys, change

    def has(self, key):
        return self.store.has(key)

    def record(self, key):
        record = self.store.record(key)
        return dataclasses.replace(record, **self.change) if key in self.keys else record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "0123456789abcdef"}, "results of several code are compared: train_cam: "),
        ({"code": "def"}, "results of several code are compared: train_cam: abc (4), def (2)"),
        ({"versions": {"torch": "1.0"}}, "results of several versions of torch are compared: train_cam: "),
        ({"device": "cuda: NVIDIA H200"}, "results of several devices are compared: train_cam: "),
    ],
)
def test_what_is_mixed_is_named_with_its_stage(plan, change, said):
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    stages = [stage for trial in plan.grid() for stage in trial.stages()]
    assert mixed(origins(stages, store)) == []
    (one, *_) = [trial.key for trial in plan.grid() if trial.seed == 0]
    (two, *_) = [trial.key for trial in plan.grid() if trial.seed == 1]
    (sentence,) = mixed(origins(stages, Changed(store, {one, two}, change)))
    assert sentence.startswith(said)


def test_two_methods_are_no_two_versions_of_one_code(tmp_path):
    """Records with the digests of today's code, as a sweep of one checkout has them."""
    plan = sweep_results.planner(tmp_path, "axes={method: {grid: [mean_affinity, aream]}}", "where=[]", "seeds=[0, 1]")
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid(), lambda trial, variant: 0.5)
    stages = {stage.key: stage for trial in plan.grid() for stage in trial.stages()}

    class Today(RememberedRecords):
        def record(self, key):
            return dataclasses.replace(super().record(key), source=source_digest(stages[key]))

    rows = origins(stages.values(), Today(store))
    assert len({row["source"] for row in rows if row["stage"] == "train_cam"}) == 2
    assert mixed(rows) == []


def test_other_code_under_the_same_version_is_counted(plan):
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    stages = {stage.key: stage for trial in plan.grid() for stage in trial.stages()}
    (one, *_) = plan.grid()

    class Today(RememberedRecords):
        def record(self, key):
            source = "old" if key == one.key else source_digest(stages[key])
            return dataclasses.replace(super().record(key), source=source)

    assert by_other_code(stages.values(), Today(store)) == {"train_cam": 1}


@pytest.mark.slow
def test_the_plan_and_the_results_say_it(plan, tmp_path, capsys):
    """Records without a digest are of code that is not known."""
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid()[:1], sweep_results.alpha_score)
    assert sweep.main([str(tmp_path / "grid.yaml"), "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "7 stored by other code (infer_cam 1, pseudo_label 4, train_cam 1, warmup 1)" in said
    content, folder = sweep_results.summarised(plan)
    assert any("stored by other code" in line for line in content["remarks"])
    assert {row["stage"] for row in content["origins"]} == {"infer_cam", "pseudo_label", "train_cam", "warmup"}
    page = (folder / "report.md").read_text()
    assert "## Made by" in page
    assert "stored by other code" in page
    assert json.loads((folder / "summary.json").read_text())["origins"] == content["origins"]
