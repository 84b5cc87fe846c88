from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_results import GRID

from orchestrator import sweep
from orchestrator.plan.planner import Planner, shared_stages
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec


@pytest.fixture
def grid(tmp_path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.format(runs=tmp_path / "runs", more="").replace("seeds: [0, 1]", "seeds: [0]"))
    return path


def planned(path: Path, capsys, *overrides: str) -> dict:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    assert sweep.main([str(path), "--plan", "--json", *arguments]) == 0
    content: dict = json.loads(capsys.readouterr().out)
    return content


def test_three_alphas_and_four_layer_subsets_train_three_times(grid, capsys):
    plan = planned(grid, capsys)
    assert plan["trainings"] == 3
    assert plan["variants"] == 12
    counts = {}
    for row in plan["stages"]:
        counts.setdefault(row["stage"], []).append(row["shared_by"])
        assert row["stored"] is False
    assert counts["warmup"] == [3]
    assert counts["train_cam"] == counts["infer_cam"] == [1, 1, 1]
    assert counts["pseudo_label"] == [1] * 12
    assert plan["estimate"]["seconds"] is None
    assert not (grid.parent / "runs").exists() or not list((grid.parent / "runs").rglob("*.json"))


def test_trials_share_what_they_have_in_common(grid):
    """Thousands are kept; a search never proposes a section of an earlier one but those it does not vary."""
    spec = load_spec(grid, [])
    first, second = (spec.trial({"train.lr": rate}, 0) for rate in (1.5e-3, 2.5e-3))
    assert (first.train.lr, second.train.lr) == (1.5e-3, 2.5e-3)
    assert first.backbone is second.backbone
    assert first.data is second.data


def test_seeds_multiply_trainings_and_share_nothing(grid, capsys):
    plan = planned(grid, capsys, "seeds=[0, 1]")
    assert (plan["trainings"], plan["variants"]) == (6, 24)
    assert sorted(row["shared_by"] for row in plan["stages"] if row["stage"] == "warmup") == [3, 3]


def test_banks_are_said(grid, capsys):
    assert planned(grid, capsys)["banks"] == []
    assert planned(grid, capsys, "resources.trial.bank=2")["banks"] == [2]  # the third trains by itself
    assert sweep.main([str(grid), "--plan", "--set=resources.trial.bank=3"]) == 0
    assert "3 trainings in 1 bank, at most 3 in one process" in capsys.readouterr().out
    assert sweep.main([str(grid), "--plan", "--set=resources.trial.bank=auto"]) == 0
    assert "3 trainings in 1 bank or more, at most 3 in one process" in capsys.readouterr().out


def test_points_that_mean_the_same_training_are_one(grid, capsys):
    """`shallow` and its layers by name are one subset; a baseline ignores the other method's values."""
    plan = planned(grid, capsys, "axes={method.fusion_layers: [shallow, [0, 1]]}")
    assert plan["trainings"] == 1


def test_where_the_key_changes_and_where_not(grid):
    def key(*overrides: str) -> str:
        spec = load_spec(grid, overrides)
        return Planner(spec, fingerprints(spec)).trial({}, 0).key

    base = key()
    assert key("train.lr=1e-3") != base
    assert key("method.refiner.iterations=3") != base
    assert key("data.train_images=5") != base
    assert key("inference.flip=false") == base
    assert key("resources.trial.cpu=2") != base  # torch adds up over two threads
    assert key("resources.trial.cpu=1.5") == base
    assert key("resources={trial: {custom: {a100: 1}}, segmentation: {cpu: 4}}") == base
    assert key("name=other") == base


def test_shared_stages_come_before_what_needs_them(grid):
    spec = load_spec(grid)
    planner = Planner(spec, fingerprints(spec))
    (shared,) = shared_stages(planner.grid())
    assert shared.name == "warmup"
    assert shared_stages(planner.grid()[:1]) == []


def test_the_plan_of_a_search_counts_its_points(grid, capsys):
    plan = planned(
        grid, capsys, "search={trials: 5}", "axes={method.alpha_low: {uniform: [0.2, 0.4]}, inference.layers: [all]}"
    )
    assert plan["trainings"] == 5
    assert plan["search"] == {"algorithm": "tpe", "trials": 5, "known": 0}


def test_the_plan_counts_a_conditional_axis_only_where_it_exists(grid, capsys):
    axes = "axes={method: [{name: aream}, {name: mctformer}], method.alpha_low: "
    plan = planned(grid, capsys, axes + """{grid: [0.2, 0.3], when: "method.name == 'aream'"}}""")
    assert plan["trainings"] == plan["variants"] == 3
    assert [trial["values"].get("method.alpha_low") for trial in plan["trials"]] == [0.2, 0.3, None]
    searched = axes + """{uniform: [0.2, 0.3], when: "method.name == 'aream'"}}"""
    assert planned(grid, capsys, searched, "search={trials: 4}")["trainings"] == 4


PSA = (
    "labels.refiner={name: psa, targets: {scores: plain}, network: {width: 2, depths: [1, 1, 1, 1]}, "
    "train: {epochs: 1, crop: 72}}"
)


@pytest.mark.slow
def test_one_affinity_network_serves_all_walks_and_thresholds(grid, capsys):
    axes = "labels.refiner.beta: [8.0, 14.0], labels.refiner.logt: [6, 8], labels.background_threshold: [auto, 0.39]"
    plan = planned(grid, capsys, PSA, "axes={method.alpha_low: [0.2, 0.3], " + axes + "}")
    assert (plan["trainings"], plan["variants"]) == (2, 16)
    names = [row["stage"] for row in plan["stages"]]
    assert (names.count("train_affinity"), names.count("affinity_scores"), names.count("pseudo_label")) == (2, 2, 16)
    rows = {row["key"]: row for row in plan["stages"]}
    for row in plan["stages"]:
        if row["stage"] == "pseudo_label":
            assert [rows[key]["stage"] for key in row["inputs"]] == ["train_affinity", "infer_cam"]
    assert "train_affinity" in plan["estimate"]["unknown_stages"]
    retrained = planned(grid, capsys, PSA, "axes={inference.layers: [all, none], labels.refiner.train.epochs: [1, 2]}")
    names = [row["stage"] for row in retrained["stages"]]
    assert (names.count("train_affinity"), names.count("affinity_scores"), names.count("infer_cam")) == (4, 2, 1)


def test_the_tree_shows_labels_under_their_network(grid, capsys):
    assert sweep.main([str(grid), "--plan", "--set", PSA, "--set", "axes={labels.refiner.logt: [6, 8]}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "-" in line]
    order = [next((name for name in ("train_affinity", "pseudo_label") if f"{name}-" in line), "") for line in lines]
    assert [name for name in order if name] == ["train_affinity", "pseudo_label", "pseudo_label"]


def test_the_second_host_is_planned_with_methods_of_its_own(grid, capsys):
    """Two plain methods are one training, each host's own split names the deep layers."""
    host = "{name: conformer, patch_size: 8, dim: 12, depth: 3, heads: 2, base_channels: 4, channel_ratio: 1"
    overrides = (
        f"backbone={host}, head: transcam}}",
        "train.augmentation={name: scale_and_crop, scale: [0.7, 1.5]}",
        "train.schedule_step=iteration",
        "axes={method: [{name: aream}, {name: transcam}, {name: mean_affinity}], inference.layers: [none, all]}",
    )
    plan = planned(grid, capsys, *overrides)
    assert (plan["trainings"], plan["variants"]) == (2, 4)
    spec = load_spec(grid, overrides)
    trial = Planner(spec, fingerprints(spec)).grid()[0]
    assert trial.train.config.method.config.supervised_layers == (2,)


def test_a_method_on_the_wrong_host_is_refused_before_anything_runs(grid, capsys):
    host = "backbone={name: conformer, patch_size: 8, dim: 12, depth: 3, heads: 2, base_channels: 4, channel_ratio: 1}"
    arguments = ["--set", host, "--set", "axes={method: [{name: mctformer}]}"]
    assert sweep.main([str(grid), "--plan", *arguments]) == 2
    assert "mctformer needs an mctformer backbone, got conformer" in capsys.readouterr().err
