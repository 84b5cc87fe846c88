"""What a plan costs, worked out by hand from records whose stages took known times and bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sweep_results import planner, workspace

from aream.config import canonical
from orchestrator.plan.planner import Planner
from orchestrator.preflight.preview import PlanSummary, print_plan, summarise
from orchestrator.results.ranking import rank
from orchestrator.results.segmentation_jobs import segmentation_jobs
from orchestrator.search.record import FAILED, STOPPED, PointOutcome, Recorded
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore
from workers.stage import Stage

SECONDS = {
    "warmup": 10.0, "train_cam": 100.0, "infer_cam": 20.0, "pseudo_label": 5.0, "train_seg": 60.0, "eval_seg": 3.0,
}  # fmt: skip
SIZES = {"warmup": 100, "train_cam": 1000, "infer_cam": 200, "pseudo_label": 50, "train_seg": 400, "eval_seg": 7}
ONE = "axes={method.alpha_low: [0.2], inference.layers: [all]}"
SEARCH = ("search={trials: 40}", "axes={method.alpha_low: {uniform: [0.2, 0.4]}, inference.layers: [none, all]}")
SEGMENTATION = "segmentation: {train: {epochs: 3, crop: 32}, select: {top: 2}}"
MEASURED_SEED = "seeds=[9]"
"""Of no planned trial: nothing that a plan needs is stored with it."""


def put(store: ArtifactStore, stages: Iterable[Stage], *, times: float = 1.0, tells: bool = True) -> None:
    """Records as stages leave them, of ``SECONDS`` each; with ``tells=False`` they say nothing of what they read."""
    for stage in stages:
        if store.has(stage.key):
            continue
        folder = store.staging()
        (folder / "content").write_bytes(b"." * SIZES[stage.name])
        config = canonical(stage.config) if tells else {}
        record = ArtifactRecord(
            key=stage.key, stage=stage.name, version=1, config=config,
            fingerprints=dict(stage.fingerprints) if tells else {},
            inputs={name: parent.key for name, parent in stage.inputs.items()},
            metrics={"pseudo/miou": 0.5}, history=[],
            seconds=times * SECONDS[stage.name], created="2026-01-01T00:00:00+00:00", code="", host="", versions={},
        )  # fmt: skip
        store.put(stage.key, folder, record)
        shutil.rmtree(folder, ignore_errors=True)


def stages(plan: Planner) -> list[Stage]:
    """Of a grid, segmentation included."""
    trials = plan.grid()
    jobs = segmentation_jobs(plan, rank(trials, workspace(plan).store(), plan.spec.ranked_by))
    return [stage for trial in trials for stage in trial.stages()] + [
        stage for job in jobs for stage in job.stage.ancestry()
    ]


@pytest.fixture
def measured(tmp_path):
    """Put the records of a grid's stages into the store that all plans here share."""

    def measured(*overrides: str, more: str = "", **options) -> None:
        plan = planner(tmp_path, MEASURED_SEED, *(overrides or (ONE,)), more=more)
        store = workspace(plan).store()
        put(store, (stage for trial in plan.grid() for stage in trial.stages()), **options)
        put(store, stages(plan), **options)

    return measured


@pytest.fixture
def summary(tmp_path):
    def summary(*overrides: str, more: str = "", recorded: Sequence[Recorded] = ()) -> PlanSummary:
        plan = planner(tmp_path, *overrides, more=more)
        return summarise(plan, workspace(plan).store(), recorded)

    return summary


def printed(plan: PlanSummary, capsys) -> str:
    print_plan(plan, as_json=False)
    return str(capsys.readouterr().out)


def test_a_search_costs_all_its_trials(measured, summary, capsys):
    """80 trainings of 100 s, their CAMs of 20 s and two labels of 5 s; a warm-up of 10 s for each of two seeds."""
    measured()
    plan = summary(*SEARCH, "resources={trial: {gpu: 0.5}}")
    estimate = plan.estimate
    assert estimate["seconds"] == 2 * 10 + 80 * (100 + 20 + 2 * 5)
    assert estimate["bytes"] == 2 * 100 + 80 * (1000 + 200 + 2 * 50)
    assert estimate["gpu_hours"] == pytest.approx(10420 * 0.5 / 3600, abs=1e-3)
    assert estimate["grid_seconds"] == 80 * 2 * (10 + 100 + 20 + 5)
    assert "every trial of a new point is priced as the mean of the 4 above" in printed(plan, capsys)


def test_a_search_that_goes_on_pays_what_is_left_of_its_known_points(measured, summary, tmp_path, capsys):
    """Of 40 points four are known: one stored whole; one failed with its training stored at one of two seeds; one that
    was proposed and never ran; one that was stopped early and is left so."""
    measured()
    plan = planner(tmp_path, *SEARCH)
    done = PointOutcome(TrialState.COMPLETE, (0.5,))
    recorded = [
        Recorded(number, {"method.alpha_low": alpha}, outcome, {})
        for number, (alpha, outcome) in enumerate(((0.21, done), (0.22, FAILED), (0.23, None), (0.24, STOPPED)))
    ]
    for seed in (0, 1):
        put(workspace(plan).store(), plan.trial(recorded[0].values, seed).stages())
    put(workspace(plan).store(), [plan.trial(recorded[1].values, 0).train])
    summed = summary(*SEARCH, recorded=recorded)
    assert summed.search == {"algorithm": "tpe", "trials": 40, "known": 4}
    assert summed.estimate["seconds"] == (30 + 130) + 2 * 130 + 36 * 2 * 130
    assert summed.estimate["grid_seconds"] == 80 * 2 * (10 + 100 + 20 + 5)
    said = printed(summed, capsys)
    assert "search: tpe, 40 points, 4 of them from earlier runs" in said
    assert "every trial of a new point is priced as the mean of the 4 above" in said
    fewer = summary("search={trials: 2}", SEARCH[1], recorded=recorded)
    assert fewer.estimate["seconds"] == 30 + 130


def test_a_search_over_what_the_warm_up_reads_warms_up_every_time(measured, summary):
    measured()
    axes = "axes={train.lr: {uniform: [1.0e-4, 1.0e-3]}, inference.layers: [all]}"
    assert summary("search={trials: 40}", axes, "seeds=[0]").estimate["seconds"] == 40 * (10 + 100 + 20 + 5)


def test_a_stored_warm_up_of_a_search_is_not_paid_again(measured, summary, tmp_path):
    measured()
    plan = planner(tmp_path, *SEARCH)
    put(workspace(plan).store(), plan.corners()[0].train.inputs.values())
    assert summary(*SEARCH).estimate["seconds"] == 1 * 10 + 80 * (100 + 20 + 2 * 5)


def test_without_a_feasible_end_a_search_is_of_unknown_cost(measured, summary, capsys):
    measured()
    between = 'where: ["method.alpha_low > 0.25", "method.alpha_low < 0.35"]\n' + SEGMENTATION
    plan = summary(*SEARCH, more=between)
    costs = (plan.estimate, plan.estimate["segmentation"])
    assert [cost[name] for cost in costs for name in ("seconds", "gpu_hours", "bytes")] == [None] * 6
    assert (plan.estimate["grid_seconds"], plan.estimate["grid_gpu_hours"]) == (None, None)
    text = printed(plan, capsys)
    assert "estimate: unknown" in text
    assert "80 trainings, variants unknown" in text
    assert "0.0 MB" not in text


def test_trainings_are_scaled_to_their_epochs(measured, summary, capsys):
    """Two epochs after a warm-up of two took 100 s and 10 s: 50 take 2500 s, ten of warm-up 50 s."""
    measured()
    plan = summary(ONE, "seeds=[0]", "train.epochs=60", "train.warmup_epochs=10")
    assert plan.estimate["seconds"] == 2500 + 50 + 20 + 5
    assert plan.estimate["bytes"] == 1000 + 100 + 200 + 50
    assert plan.estimate["stage_seconds"]["train_cam"] == 2500
    source = {"records": 1, "same_data_and_network": True}
    assert plan.estimate["measured_by"]["train_cam"] == {**source, "scaled_by_length": True}
    assert plan.estimate["measured_by"]["infer_cam"] == {**source, "scaled_by_length": None}
    text = printed(plan, capsys)
    assert "same data and network: infer_cam (1), pseudo_label (1), train_cam (1), warmup (1)" in text
    assert "other data" not in text


def test_records_of_the_same_data_and_backbone_come_first(measured, summary):
    """Others took a hundred times as long, and are not asked."""
    measured()
    measured(ONE, "data.image_size=64", times=100)
    measured(ONE, "backbone.dim=24", times=100)
    estimate = summary(ONE, "seeds=[0]").estimate
    # Labels read no backbone, so those under the other backbone's CAMs count: (5 + 500) / 2.
    assert estimate["seconds"] == 10 + 100 + 20 + 252.5
    assert estimate["measured_by"]["pseudo_label"]["records"] == 2
    assert estimate["measured_by"]["train_cam"]["records"] == 1


def test_a_plan_says_that_it_is_priced_by_other_data(measured, summary, capsys):
    """The mean of 100 s and 300 s for two epochs, for four: 400 s; what is no training as it was, 40 s and 10 s."""
    measured(ONE, "data.image_size=64")
    measured(ONE, "data.image_size=96", times=3)
    plan = summary(ONE, "seeds=[0]", "train.epochs=6")
    assert plan.estimate["seconds"] == 400 + 20 + 40 + 10
    source = {"records": 2, "same_data_and_network": False, "scaled_by_length": True}
    assert plan.estimate["measured_by"]["train_cam"] == source
    text = printed(plan, capsys)
    assert "other data or networks: infer_cam (2), pseudo_label (2), train_cam (2), warmup (2)" in text
    assert "the same data" not in text


def test_records_that_tell_nothing_are_taken_as_they_are(measured, summary, capsys):
    measured(tells=False)
    plan = summary(ONE, "seeds=[0]", "train.epochs=60")
    assert plan.estimate["seconds"] == 100 + 10 + 20 + 5
    assert plan.estimate["measured_by"]["train_cam"]["scaled_by_length"] is False
    assert "train_cam (1, not scaled by epochs), warmup (1, not scaled by epochs)" in printed(plan, capsys)


def test_segmentation_is_priced_beside_the_trials(measured, summary, capsys):
    """Three epochs took 60 s and a test 3 s; two labels at two seeds, once for 6 epochs and once for 30."""
    measured(more=SEGMENTATION)
    axes = "axes={method.alpha_low: [0.2], inference.layers: [all, none]}"
    more = SEGMENTATION.removesuffix("}") + ", axes: {train.epochs: [6, 30]}}"
    plan = summary(axes, "resources={segmentation: {gpu: 1}}", more=more)
    assert plan.segmentation_jobs == 2 * 2 * 2
    assert plan.estimate["seconds"] == 2 * (10 + 100 + 20 + 5 + 5)
    assert plan.estimate["segmentation"] == {
        "unknown_stages": [],
        "seconds": 4 * (120 + 3) + 4 * (600 + 3),
        "gpu_hours": pytest.approx(2904 / 3600, abs=1e-3),
        "bytes": 8 * (400 + 7),
    }
    assert "segmentation, not counted above: at most 48 min 24 s, 0.807 GPU hours, 0.0 MB" in printed(plan, capsys)


def test_segmentation_of_unknown_cost_leaves_that_of_the_trials(measured, summary, capsys):
    measured()
    plan = summary(ONE, "seeds=[0]", more=SEGMENTATION)
    assert plan.estimate["seconds"] == 10 + 100 + 20 + 5
    assert plan.estimate["segmentation"]["unknown_stages"] == ["eval_seg", "train_seg"]
    assert "segmentation, not counted above: unknown, no stored eval_seg, train_seg" in printed(plan, capsys)


def test_steps_are_not_taken_for_epochs(measured, summary):
    measured(more=SEGMENTATION)
    steps = "segmentation: {train: {iterations: 500, crop: 32}}"
    plan = summary(ONE, "seeds=[0]", more=steps)
    assert plan.estimate["segmentation"]["seconds"] == 60 + 3
    assert plan.estimate["measured_by"]["train_seg"]["scaled_by_length"] is False


def test_labels_made_elsewhere_train_once_a_seed(summary, tmp_path):
    plan = summary(ONE, more=f"segmentation: {{labels: {Path(tmp_path)}, select: {{top: 3}}}}")
    assert plan.segmentation_jobs == 2
