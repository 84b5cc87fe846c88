"""What analyses wrote reaches the report: baselines beside the others, means over seeds, tables and pictures."""

from __future__ import annotations

import pytest
import sweep_results
from PIL import Image

from orchestrator.reporting.analyses import MOST_LINES, analysis_results, analysis_sections
from orchestrator.reporting.drawing import style
from orchestrator.reporting.figures import analyses
from orchestrator.reporting.figures.analyses import analysis_figure
from orchestrator.reporting.figures.protocol import FigureInput
from orchestrator.reporting.write import write_report
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.tracker import Tracker
from workers.files.figures import Curve, Picture, write_figures

METHODS = "axes={method: [{name: mctformer}, {name: aream, alpha_low: 0.3}], inference.layers: [none, all]}"
KEY = "layer_gain-{:016x}"


class Analysed:
    """A store with the analyses of a sweep of two methods and two seeds, and the sweep's summary."""

    def __init__(self, folder, depth=4, **values):
        plan = sweep_results.planner(folder, METHODS, "seeds=[0, 1]", "analyses=[layer_gain]")
        self.plan = plan
        self.place = sweep_results.workspace(plan)
        self.store = self.place.store()
        gains = {"mctformer": 0.0, "aream": 0.1}
        for trial in plan.grid():
            for variant in trial.variants:
                (analysis,) = variant.stages.analyses
                method = variant.values["method"]["name"]
                base = gains[method] + 0.02 * trial.seed
                figures = [
                    Curve(
                        "miou",
                        "mIoU",
                        "by one layer",
                        tuple(base + 0.1 * layer for layer in range(depth)),
                        {"none": base},
                    ),
                    Curve("rank", "effective rank", "how rich", tuple(float(layer) for layer in range(depth))),
                ]
                picture = (Picture("cam_1", f"cam of {method}"), Image.new("RGB", (30, 20)))
                sweep_results.put(
                    self.store, analysis, 1.0, "2026-01-01T00:00:00+00:00",
                    write=lambda out, figures=figures, picture=picture: write_figures(out, figures, [picture]),
                )  # fmt: skip
        sweep_results.compute(self.store, plan.grid(), lambda trial, variant: gains[variant.values["method"]["name"]])
        self.content, self.folder = sweep_results.summarised(plan)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    return Analysed(tmp_path_factory.mktemp("analysed"))


@pytest.mark.slow
def test_one_line_a_method_with_its_spread_the_plain_host_first(analysed):
    (result,) = analysis_results(analysed.content, analysed.store)
    panel = result.panels[0]
    assert [(line.baseline, "mctformer" in line.title) for line in panel.lines] == [(True, True), (False, False)]
    for line, gain in zip(panel.lines, (0.0, 0.1), strict=True):
        means, spreads = zip(*line.values, strict=True)
        assert means == pytest.approx([gain + 0.01 + 0.1 * layer for layer in range(4)])
        assert spreads == pytest.approx([0.02 / 2**0.5] * 4)
        assert line.marks["none"][0] == pytest.approx(gain + 0.01)


@pytest.mark.slow
def test_a_figure_holds_every_measure_line_and_mark(analysed):
    (result,) = analysis_results(analysed.content, analysed.store)
    with style():
        figure, rows = analysis_figure(result)
    first, second = figure.axes
    labels = (first.get_ylabel(), second.get_ylabel(), first.get_xlabel())
    assert labels == ("gain in mIoU (points)", "effective rank", "layer")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["host alone", "with the method"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0", "1", "2", "3"]
    lines = [line for line in first.get_lines() if len(line.get_xdata()) == 4]
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    for line in lines:  # over the CAM that no layer refined, in points
        assert list(line.get_ydata()) == pytest.approx([0, 10, 20, 30])
    assert {tuple(row[:3]) for row in rows} >= {("miou", rows[0][1], "none"), ("miou", rows[0][1], "3")}


def test_the_report_has_figures_pictures_and_tables(analysed):
    for name in ("report.html", "report.md"):
        text = (analysed.folder / name).read_text()
        assert "layer_gain: mIoU" in text
        assert "0.11 ± 0.014" in text
        assert "cam of aream" in text
        assert "effective rank" in text
    assert (analysed.folder / "figures" / "layer_gain.png").stat().st_size > 1000
    with Image.open(analysed.folder / "figures" / "layer_gain.png") as picture:
        assert picture.convert("L").getextrema()[0] < 128


def test_the_plain_host_is_shown_however_many_are_better(analysed):
    best = analysed.content["ranking"][0]
    worst = analysed.content["ranking"][-1]
    assert worst["without_loss"]
    many = [
        {**best, "config": {"method.alpha_low": number}, "analyses": {"layer_gain": {"0": KEY.format(number)}}}
        for number in range(2 * MOST_LINES)
    ]
    for entry in many:
        if analysed.store.has(entry["analyses"]["layer_gain"]["0"]):
            continue
        stage = type("Stage", (), {"key": entry["analyses"]["layer_gain"]["0"], "name": "layer_gain", "inputs": {}})
        sweep_results.put(
            analysed.store, stage, 1.0, "2026-01-01T00:00:00+00:00",
            write=lambda out: write_figures(out, [Curve("miou", "mIoU", "", (0.5,))]),
        )  # fmt: skip
    (result,) = analysis_results({**analysed.content, "ranking": [*many, worst]}, analysed.store)
    assert [line.baseline for line in result.panels[0].lines] == [True] + [False] * (MOST_LINES - 1)
    assert "alpha_low=0" in result.panels[0].lines[1].title


@pytest.mark.slow
def test_damaged_analyses_cost_their_line_and_not_the_report(tmp_path):
    made = Analysed(tmp_path)
    for entry in made.content["ranking"]:
        if entry["without_loss"]:
            for key in entry["analyses"]["layer_gain"].values():
                made.store.discard(key)
    (result,) = analysis_results(made.content, made.store)
    assert [line.baseline for line in result.panels[0].lines] == [False]
    for entry in made.content["ranking"]:
        for key in entry["analyses"]["layer_gain"].values():
            made.store.discard(key)
    assert analysis_results(made.content, made.store) == []
    write_report(made.content, made.store, tmp_path / "report")
    assert "layer_gain: mIoU" not in (tmp_path / "report" / "report.md").read_text()


def test_a_summary_without_analyses_has_none(analysed):
    ranking = [
        {key: value for key, value in entry.items() if key != "analyses"} for entry in analysed.content["ranking"]
    ]
    assert analysis_results({**analysed.content, "ranking": ranking}, analysed.store) == []


@pytest.mark.slow
def test_one_layer_alone(tmp_path):
    made = Analysed(tmp_path, depth=1)
    results = analysis_results(made.content, made.store)
    with style():
        analyses.draw(FigureInput({}, None, results), tmp_path / "figures")
    assert [row[0] for row in analysis_sections(results)[0].table.rows] == ["none", "layer 0"]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::Warning")  # mlflow's database layer warns about its own dependencies
def test_the_tracker_gets_curves_over_layers_and_pictures(analysed, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(MlflowBackend(uri, "experiment"), "sweep-1", tmp_path / "spool")
    recorder = Recorder(tracker, analysed.plan.spec, analysed.plan.fingerprints, analysed.store, tmp_path)
    recorder.open_sweep()
    trial = next(trial for trial in analysed.plan.grid() if trial.values["method"]["name"] == "aream")
    recorder.trial(trial)
    recorder.trial_done(trial, analysed.store)
    recorder.later.finish()
    assert tracker.close(60) == 0
    import mlflow

    client = mlflow.MlflowClient(uri)
    run = next(run for run in client.search_runs(["1"]) if run.data.tags["aream.run"] == f"trial/{trial.key}")
    history = client.get_metric_history(run.info.run_id, "layer_gain/miou")
    assert [(point.step, round(point.value, 6)) for point in history] == [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "layer_gain")}
    assert files == {"layer_gain/figures.json", "layer_gain/cam_1.png"}
