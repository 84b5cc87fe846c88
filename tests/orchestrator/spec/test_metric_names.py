"""Metric names are checked before anything runs, against one list that every stage adds its own to."""

from __future__ import annotations

import json
import math

import pytest
import sweep_results
from searching import end

from aream.errors import ConfigError
from orchestrator import sweep
from orchestrator.results.ranking import best_first, measured, unranked
from orchestrator.spec import metrics
from orchestrator.spec.metric_checks import remarks
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import goal
from workers import metric

NET = "vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, heads: 2"
HEAD = f"""name: x
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{{NET}, depth: 4}}
train: {{epochs: 4, warmup_epochs: 1, lr_warmup_epochs: 0, image_size: 32}}
"""
ALPHAS = "axes: {method.alpha_low: [0.2, 0.3]}\n"
METHODS = "axes: {method: [{name: aream}, {name: mean_affinity}]}\n"
BOTH = f"{{name: mctformer_v2, {NET}, depth: 2}}, {{name: mctformer_v2, {NET}, depth: 4}}"
DEPTHS = f"axes: {{backbone: {{grid: [{BOTH}]}}}}\n"
GAIN = ALPHAS + "analyses: [layer_gain]\n"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "x.yaml"
        path.write_text(HEAD + text)
        return load_spec(path)

    return read


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (ALPHAS + "rank: {metric: pseudo/miuo}", "rank.metric", "no such metric (did you mean pseudo/miou?)"),
        (ALPHAS + "rank: {metric: miou}", "rank.metric", "no such metric"),
        (ALPHAS + "rank: {metric: Pseudo/mIoU}", "rank.metric", "no such metric"),
        (ALPHAS + "rank: {metric: ''}", "rank.metric", "no such metric"),
        (ALPHAS + "rank: {metric: layer/best/miou}", "rank.metric", "from layer_gain, which `analyses` does not"),
        (GAIN + "rank: {metric: layer/04/miou}", "rank.metric", "measures nothing of that name"),
        (GAIN + "rank: {metric: layer/3/miou}", "rank.metric", "measures nothing of that name"),
        (DEPTHS + "analyses: [layer_gain]\nrank: {metric: layer/03/miou}", "rank.metric", "none where backbone="),
        (ALPHAS + "rank: {metric: seg/miou}", "rank.metric", "after the ranking"),
        (ALPHAS + "segmentation: {}\nrank: {metric: seg/miou}", "rank.metric", "after the ranking"),
        (ALPHAS + "rank: {metric: cost/gpu_seconds}", "rank.metric", "get no GPU"),
        (ALPHAS + "rank: {metric: train/classification_loss}", "rank.metric", "no result"),
        (ALPHAS + "rank: {metric: val/map_image}", "rank.metric", "no result"),
        (ALPHAS + "rank: {metric: entropy/layer_00}", "rank.metric", "of a single layer_entropy"),
        (ALPHAS + "rank: {metric: pseudo/threshold}", "rank.mode", "pseudo/threshold has no better end"),
        (ALPHAS + "scheduler: {metric: val/mpa}", "scheduler.metric", "did you mean val/map?"),
        (ALPHAS + "scheduler: {metric: pseudo/miou}", "scheduler.metric", "not reported every epoch"),
        (ALPHAS + "scheduler: {metric: train/contrast_loss}", "scheduler.metric", "not reported every epoch"),
        (METHODS + "scheduler: {metric: train/affinity_loss}", "scheduler.metric", "none where method=mean_affinity"),
        (ALPHAS + "scheduler: {metric: train/micro_batch, mode: min}", "scheduler.metric", "not reported every epoch"),
        (ALPHAS + "search: {trials: 2, objectives: [{metric: pseudo/miou}, {metric: cost/second}]}",
         "search.objectives[1].metric", "did you mean cost/seconds?"),
        (ALPHAS + "search: {trials: 2, objectives: [{metric: train/classification_loss}]}",
         "search.objectives[0].metric", "no result"),
        (ALPHAS + "paper: {source: T, rows: [{metric: pseudo/mio, value: 0.5}]}",
         "paper.rows[0].metric", "did you mean"),
        (ALPHAS + "paper: {source: T, rows: [{value: 0.5}], context: [{name: a, metric: cam/mio, value: 0.1}]}",
         "paper.context[0].metric", "did you mean cam/miou?"),
        (ALPHAS + "segmentation: {labels: there}\npaper: {source: T, rows: [{metric: seg/miou, value: 0.5}]}",
         "paper.rows[0].metric", "labels are made elsewhere"),
    ],
)  # fmt: skip
def test_a_metric_that_the_sweep_does_not_make_is_refused_with_its_line(read, text, key, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    line = next(line for line in str(caught.value).splitlines() if f" {key}: " in line)
    assert message in line, line
    assert line.split(" ")[0].rsplit(":", 2)[1].isdigit(), line
    assert "pseudo/miou" in line or "val/map" in line or key.endswith("mode")  # what is allowed


@pytest.mark.parametrize(
    "text",
    [
        "rank: {metric: cam/miou_all}",
        "rank: {metric: pseudo/miou_otsu}",
        "rank: {metric: pseudo/threshold, mode: min}",
        "analyses: [layer_gain]\nrank: {metric: layer/03/miou}",
        "analyses: [layer_gain]\nrank: {metric: layer/best/miou}",
        "analyses: [attention_statistics]\nrank: {metric: layer/00/entropy, mode: max}",
        "scheduler: {metric: train/affinity_loss}",
        "scheduler: {metric: val/map_image}",
        "resources: {trial: {gpu: auto}}\nrank: {metric: cost/gpu_seconds}",
        "segmentation: {}\npaper: {source: T, rows: [{metric: seg/miou, value: 0.5}]}",
    ],
)
def test_what_the_sweep_makes_is_taken(read, text):
    assert read(ALPHAS + text).name == "x"


def test_the_better_end_is_the_metrics_own(read):
    spec = read(ALPHAS + "rank: {metric: cost/seconds}\nscheduler: {metric: train/classification_loss}\n")
    assert spec.ranked_by.mode == spec.resolved()["rank"]["mode"] == "min"
    assert remarks(spec) == []


@pytest.mark.parametrize(
    ("metric", "axis", "said"),
    [
        ("val/map", "inference.layers: [none, all]", True),
        ("val/map", "inference.layers: [all]", False),
        ("val/map", "train.lr: [1e-3, 1e-4]", False),
        ("pseudo/miou", "inference.layers: [none, all]", False),
        ("cost/seconds", "inference.layers: [none, all]", False),
    ],
)
def test_what_a_ranking_cannot_tell_apart_is_said(read, metric, axis, said):
    found = remarks(read(f"axes: {{{axis}}}\nrank: {{metric: {metric}}}\n"))
    words = "rank.metric: given val/map, which is of a training; what differs in inference.layers alone is equal by it"
    assert [remark.startswith(words) for remark in found] == [True] * said


def test_the_bad_end_is_said(read, tmp_path, capsys, monkeypatch):
    text = (
        ALPHAS + "rank: {metric: pseudo/miou, mode: min}\nscheduler: {metric: train/classification_loss, mode: max}\n"
    )
    found = remarks(read(text))
    assert [line.split(":")[0] for line in found] == ["rank.mode", "scheduler.mode"]
    monkeypatch.chdir(tmp_path)
    assert sweep.main(["x.yaml", "--plan"]) == 0
    assert "rank.mode: given min, but pseudo/miou is better the higher" in capsys.readouterr().out


def test_every_stage_declares_what_it_measures():
    for entry in metric.listed():
        assert entry.metric.caption.rstrip(".") == entry.metric.caption != "", entry
    for stage in metric.discover.names(metric.stages):
        assert metric.of_stage(stage), f"{stage} declares no METRICS"


def test_one_name_has_one_better_end_and_unit():
    known = {}
    for entry in metrics.every():
        facts = entry.metric.unit, entry.metric.better
        assert known.setdefault(entry.metric.name, facts) == facts, entry


def test_the_stages_of_a_configuration_are_those_that_are_ranked(tmp_path):
    (trial, *_) = sweep_results.planner(tmp_path).grid()
    stages = [trial.train, *trial.variants[0].stages.all()]
    assert tuple(stage.name for stage in stages) == metrics.OF_A_CONFIGURATION


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None])
def test_a_configuration_without_a_number_is_named_and_not_ranked(tmp_path, wrong):
    plan = sweep_results.planner(tmp_path)
    store = sweep_results.workspace(plan).store()
    (odd, *rest) = plan.grid()

    def score(trial, variant):
        return 0.5

    sweep_results.compute(store, rest, score)
    sweep_results.compute(store, [odd], lambda trial, variant: math.nan if wrong is None else wrong)
    found = measured(plan.grid(), store)
    ranking, left = best_first(found, goal("pseudo/miou", "max")), unranked(found, "pseudo/miou")
    alphas = {entry.config["method.alpha_low"] for entry in ranking}
    assert alphas == {0.3, 0.4}
    assert list(left.values()) == [f"no number for pseudo/miou at seed {odd.seed}"] * 4


@pytest.mark.slow
def test_the_report_says_who_is_not_ranked(tmp_path):
    plan = sweep_results.planner(tmp_path)
    store = sweep_results.workspace(plan).store()
    (odd, *rest) = plan.grid()
    sweep_results.compute(store, [odd], lambda trial, variant: math.nan)
    sweep_results.compute(store, rest, sweep_results.alpha_score)
    content, folder = sweep_results.summarised(plan)
    assert [len(content["unranked"]), len(content["ranking"])] == [4, 8]
    page = (folder / "report.md").read_text()
    assert all(title.replace("[", "\\[") in page for title in content["unranked"])
    assert json.loads((folder / "summary.json").read_text()) == content


def test_a_search_goes_by_the_end_that_is_better(search):
    searcher = search(objectives=[{"metric": "cost/seconds"}], trials=2)
    searcher.suggest("a")
    end(searcher, "a", {"cost/seconds": 3.0})
    assert [direction.name for direction in searcher.study.record.study.directions] == ["MINIMIZE"]
