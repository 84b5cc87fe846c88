"""What is written of a sweep: summary.json, report.html, report.md and CSV."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest
import sweep_results

from orchestrator import report
from orchestrator.reporting.markdown import as_markdown
from orchestrator.reporting.terminal import print_answer, print_results
from orchestrator.reporting.tracker_page import tracker_page
from orchestrator.reporting.write import write_report

HOSTILE = "<script>alert(1)</script>\"'|`[x](javascript:y)\n# $\\frac{$"


@pytest.fixture
def store(tmp_path):
    return sweep_results.workspace(sweep_results.planner(tmp_path)).store()


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside = False
        self.tags: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.cells[-1][-1] += data


@pytest.mark.slow
def test_what_sharing_saved_by_hand(content):
    # a seed: one warm-up of 10 s, three trainings of 100 s with CAMs of 20 s, twelve labels of 5 s
    assert content["cost"]["seconds"] == 2 * (10 + 3 * 120 + 12 * 5)
    assert content["cost"]["separate_seconds"] == 24 * 135
    # two configurations at two seeds
    assert content["cost"]["segmentation_seconds"] == 4 * 52
    assert content["cost"]["gpu_seconds"] == 0


@pytest.mark.slow
def test_what_the_store_answered_by_hand(content):
    # the first two trials are one alpha at both seeds: a warm-up, training, CAMs and four labels each
    assert content["store"]["tasks"] == {"trial": {"stored": 2, "all": 6}}
    assert content["store"]["stages"] == {"stored": 2 * 7, "all": 2 * (1 + 3 * 2 + 12) + 4 * 2}
    assert content["store"]["saved_seconds"] == 2 * (10 + 100 + 20 + 4 * 5)


def test_segmenters_join_the_seeds_whose_labels_they_learned(content):
    best = content["ranking"][0]
    assert [own.get("seg/miou") for own in best["per_seed"].values()] == pytest.approx([0.6, 0.7])
    assert best["metrics"]["seg/miou"] == pytest.approx(0.65)
    assert "seg/miou" not in content["ranking"][2]["per_seed"]["0"]


def test_front_and_importance_of_the_grid(content):
    assert content["pareto"]["front"] == [0]  # all cost the same, so the best is alone
    assert next(iter(content["importance"]["shares"])) == "inference.layers"
    assert content["axis_kinds"] == {"method.alpha_low": "grid", "inference.layers": "grid"}


@pytest.mark.slow
def test_the_baseline_of_a_sweep_over_methods(tmp_path):
    axes = "axes={method: [{name: mctformer}, {name: aream, alpha_low: 0.3}], inference.layers: [none, all]}"
    plan = sweep_results.planner(tmp_path, axes, "seeds=[0, 1, 2]")
    gains = {0: 0.01, 1: 0.03, 2: 0.02}

    def score(trial, variant):
        refined = variant.values["inference.layers"] == "all"
        gain = gains[trial.seed] if variant.values["method"]["name"] == "aream" else 0.0
        return 0.4 + 0.05 * refined + 0.1 * trial.seed + gain

    sweep_results.compute(sweep_results.workspace(plan).store(), plan.grid(), score)
    content, folder = sweep_results.summarised(plan)
    assert [entry["method"] for entry in content["ranking"]] == ["aream", "mctformer", "aream", "mctformer"]
    for position in (0, 2):
        pair = content["ranking"][position]["paired"]
        assert pair["baseline"] == position + 1
        assert pair["mean"] == pytest.approx(0.02)
        assert pair["spread"] == pytest.approx(0.01)
    for name in ("report.html", "report.md"):
        assert "+0.0200 ± 0.0100 (n=3, better in 3)" in (folder / name).read_text()
    assert content["ranking"][1]["paired"] is None


def test_the_pages_say_it(finished):
    content, folder = finished
    page = Page((folder / "report.html").read_text())
    effects, start = page.cells[:6], 6  # two alphas over the third, three layer subsets over the fourth
    assert effects[0][:4] == ["axis", "value", "over", "difference in pseudo/miou"]
    assert effects[3] == ["layers", "all", "none", "−0.1000", "± 0.0000", "0 of 2", "beyond seed noise"]
    table = page.cells[start : start + 1 + len(content["ranking"])]
    assert table[0] == [
        "#", "alpha_low", "layers", "pseudo-label mIoU", "val mAP", "CAM mIoU", "segmenter mIoU",
    ]  # fmt: skip
    assert table[1] == ["1", "0.4", "none", "0.5450 ± 0.0071", "0.8000", "0.2500", "0.6500 ± 0.0707"]
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert "14 min 20 s, each stage once" in text
        assert "would have taken 54 min 0 s, 3.8 times as much" in text
        assert "2 of 6 trial tasks" in text
        assert "out of memory" in text


def test_the_terminal_marks_a_front_of_several_and_ties(content, capsys):
    print_results(content)
    assert "●" not in capsys.readouterr().out  # of one configuration, nothing to choose from
    content["pareto"]["front"] = [0, 11]
    content["answer"]["ties"] |= {"least": 0.05, "positions": [0, 1]}
    print_results(content)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "●" in line and "│" in line]) == 2
    (tied,) = [line for line in lines if "≈ #1" in line]
    assert tied.startswith("│  2 ")


def test_report_terminal_and_tracker_give_one_answer(finished, capsys):
    content, folder = finished
    sentences = content["answer"]["sentences"]
    assert any(sentence.startswith("layers: none gains 0.300 ") for sentence in sentences)
    print_answer(content)
    assert capsys.readouterr().out.splitlines() == [f"answer: {sentence}" for sentence in sentences]
    markdown, page = (folder / "report.md").read_text(), html.unescape((folder / "report.html").read_text())
    for sentence in sentences:
        assert f"- {as_markdown(sentence)}" in markdown
        assert f"- {as_markdown(sentence)}" in tracker_page(content)
        assert sentence in page


def test_hostile_names_stay_text(content, store, tmp_path, capsys):
    content["question"] = content["code"] = content["created"] = HOSTILE
    content["name"] = content["axes"][0] = content["answer"]["effects"][0]["axis"] = HOSTILE
    content["answer"]["sentences"] = [HOSTILE]
    content["versions"] = {HOSTILE: HOSTILE}
    content["failures"] = {HOSTILE: HOSTILE}
    content["importance"]["shares"] = {HOSTILE: 1.0}
    content["axis_kinds"] = {HOSTILE: "grid"}
    for number, entry in enumerate(content["ranking"]):
        entry["config"] = {HOSTILE: f"{HOSTILE}{number}", "inference.layers": [HOSTILE]}
    for job in content["segmentation"]:
        job["title"] = job["label_artifact"] = HOSTILE
    write_report(content, store, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("script") == text.count("<script") == 2  # its own
    ranking = page.cells[6 : 7 + len(content["ranking"])]
    assert ranking[0][1] == HOSTILE
    assert len({len(row) for row in ranking}) == 1
    markdown = (tmp_path / "report.md").read_text()
    assert "<script" not in markdown
    assert "](javascript" not in markdown.replace("\\[x](javascript", "")
    print_results(content)
    assert "alert(1)" in capsys.readouterr().out


def test_a_table_leaves_as_numbers_that_a_spreadsheet_reads(finished):
    _, folder = finished
    saved = [html.unescape(text) for text in re.findall(r'data-save="([^"]*)"', (folder / "report.html").read_text())]
    effects = next(rows for text in saved if (rows := list(csv.DictReader(io.StringIO(text))))[0].get("over"))
    differences = [float(row["difference in pseudo/miou"]) for row in effects]
    assert min(differences) < 0 < max(differences)
    assert "−" not in "".join(saved)


def test_the_page_of_a_tracker_is_one_table_whatever_is_in_it(content):
    content["axes"][0] = "method.a|b"
    for entry in content["ranking"]:
        entry["config"] = {"method.a|b": "x|<b>y</b>", "inference.layers": [0]}
    content["segmentation"][0]["title"] = "<b>a</b>"
    content["remarks"] = ["<b>x</b>"]
    page = tracker_page(content)
    rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert "<b>" not in page


def test_a_summary_of_an_earlier_version_still_makes_a_report(content, store, tmp_path):
    for name in ("answer", "pareto", "importance", "cost", "store", "axis_kinds"):
        del content[name]
    for entry in content["ranking"]:
        del entry["paired"], entry["metrics"]["cost/seconds"]
    write_report(content, store, tmp_path)
    assert "| 12 |" in (tmp_path / "report.md").read_text()


def test_each_remark_below_the_question_has_a_line(content, store, tmp_path):
    content["question"] = "Which alpha? Cost: 8 minutes on 2 cores. Needs: VOC 2012, that is: its images."
    write_report(content, store, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert '<p class="about">Cost: 8 minutes on 2 cores.<br>Needs: VOC 2012, that is: its images.</p>' in text


def test_nothing_finished_is_a_report_too(content, store, tmp_path):
    content |= {"ranking": [], "segmentation": [], "importance": {"left_out": "Too few."}}
    content["pareto"]["front"] = []
    write_report(content, store, tmp_path)
    assert "Too few." in (tmp_path / "report.html").read_text()


def test_no_results_and_torn_results_are_refused_with_a_sentence(tmp_path, capsys):
    (tmp_path / "s").mkdir()
    assert report.main(["s", "--runs", str(tmp_path), "--csv"]) == 2
    assert "no results yet" in capsys.readouterr().err
    (tmp_path / "s" / "summary.json").write_text(json.dumps({"name": "s"})[:-4])
    assert report.main(["s", "--runs", str(tmp_path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_segmenters_of_one_seed_are_one_measurement(tmp_path):
    """Two crops at two seeds are two seeds."""
    more = "segmentation: {axes: {train.crop: [32, 64]}}\npaper: {source: T, rows: [{metric: seg/miou, value: 0.6}]}"
    plan = sweep_results.planner(tmp_path, more=more)
    sweep_results.compute(sweep_results.workspace(plan).store(), plan.grid(), sweep_results.alpha_score)
    content, _ = sweep_results.summarised(plan)
    best = content["ranking"][0]
    assert len(content["segmentation"]) == 4
    assert [best["per_seed"][seed]["seg/miou"] for seed in ("0", "1")] == pytest.approx([0.6, 0.7])
    assert best["metrics"]["seg/miou"] == pytest.approx(0.65)
    assert best["spread"]["seg/miou"] == pytest.approx(0.1 / 2**0.5)
    assert content["paper"]["rows"][0]["seeds"] == 2


def test_a_row_has_its_whole_configuration(content):
    for entry in content["ranking"]:
        whole = content["settings"] | entry["settings"]
        assert whole["method.alpha_low"] == entry["config"]["method.alpha_low"]
        assert whole["backbone.name"] == "mctformer_v2"
        assert whole["train.epochs"] == 4
    assert "method.alpha_low" not in content["settings"]
