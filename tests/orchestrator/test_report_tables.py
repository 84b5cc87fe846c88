"""A sweep's results as tables: CSV for a spreadsheet, LaTeX for a paper, and the command of each row."""

from __future__ import annotations

import csv
import io
import re
import shlex
from pathlib import Path

import pytest
import sweep_results

from orchestrator import report
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.reporting.latex import as_latex
from orchestrator.reporting.ranking_csv import ranking_csv
from orchestrator.results.configurations import command_for
from orchestrator.spec.reader import load_spec


def test_csv_has_a_row_a_configuration_and_seed(finished, capsys):
    content, folder = finished
    assert report.main(["grid", "--runs", str(folder.parent), "--csv"]) == 0
    path = folder / "ranking.csv"
    assert capsys.readouterr().out.strip() == str(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(int(row["rank"]), int(row["seed"])) for row in rows] == [(n, s) for n in range(1, 13) for s in (0, 1)]
    for row in rows:
        entry = content["ranking"][int(row["rank"]) - 1]
        own = entry["per_seed"][row["seed"]]
        assert float(row["method.alpha_low"]) == entry["config"]["method.alpha_low"]
        assert float(row["pseudo/miou"]) == own["pseudo/miou"]
        assert row["labels"] == entry["label_artifacts"][row["seed"]]
        assert row["training"] in entry["trial_keys"]
        assert row["seg/miou"] == (str(own["seg/miou"]) if "seg/miou" in own else "")
        assert row["front"] == ("1" if row["rank"] == "1" else "0")
    assert report.main(["grid", "--runs", str(folder.parent), "--csv", "-"]) == 0
    assert capsys.readouterr().out == path.read_text()


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_spreadsheet_runs_a_cell(content, start):
    content["axes"] = [f'{start}cmd("x")', "lr"]
    for entry in content["ranking"]:
        entry["config"] = {content["axes"][0]: f'{start}HYPERLINK("a,b")\n', "lr": -0.5}
    rows = list(csv.reader(io.StringIO(ranking_csv(content))))
    assert rows[0][3] == f"'{content['axes'][0]}"
    assert rows[1][3:5] == [f"'{content['ranking'][0]['config'][content['axes'][0]]}", "-0.5"]


def test_an_axis_that_a_configuration_lacks_is_an_empty_cell(content):
    del content["ranking"][0]["config"]["method.alpha_low"]
    rows = list(csv.DictReader(io.StringIO(ranking_csv(content))))
    assert rows[0]["method.alpha_low"] == ""
    assert rows[2]["method.alpha_low"] != ""


def test_the_tables_of_a_paper(finished, capsys):
    content, folder = finished
    assert report.main(["grid", "--runs", str(folder.parent), "--latex"]) == 0
    path = folder / "tables.tex"
    assert capsys.readouterr().out.strip() == str(path)
    text = path.read_text()
    assert text.startswith("% \\usepackage{booktabs}")
    for environment in ("table", "tabular"):
        assert text.count(f"\\begin{{{environment}}}") == text.count(f"\\end{{{environment}}}") >= 3
    ranking = text[text.index("\\begin{tabular}") : text.index("\\end{tabular}")].splitlines()
    rows = [line for line in ranking if line.endswith("\\\\")]
    assert len(rows) == 1 + len(content["ranking"])
    assert len({row.count(" & ") for row in rows}) == 1
    assert "0.5450 $\\pm$ 0.0071" in rows[1]
    assert report.main(["grid", "--runs", str(folder.parent), "--latex", "-"]) == 0
    assert capsys.readouterr().out == text


def test_latex_sets_any_text_as_it_is():
    signs = as_latex("a_b & 50 % of $x$ # {y} ~ ^ \\ < > − ± ≈\nline")
    assert "\n" not in signs
    plain = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\$\\?[a-z-]+\$", "", signs)
    assert not set(plain) & set("&%$#_{}~^\\<>")


@pytest.mark.parametrize(
    ("text", "set_as"),
    [
        ("-0.0123 ± 0.01", "$-$0.0123 $\\pm$ 0.01"),
        ("lr=-.5, [-1,2]", "lr=$-$.5, [$-$1,2]"),
        ("0-6, 1e-05, train_cam-0123, a - 1", "0-6, 1e-05, train\\_cam-0123, a - 1"),
    ],
)
def test_latex_sets_a_minus_before_a_number(text, set_as):
    assert as_latex(text) == set_as


def test_the_command_of_a_row_plans_that_row_alone(finished):
    content, _ = finished
    for place in (0, 7):
        entry = content["ranking"][place]
        words = shlex.split(entry["command"])
        assert words[:2] == ["aream", "sweep"]
        options = words[3:]
        assert set(options[::2]) == {"--set"}
        spec = load_spec(Path(words[2]), options[1::2])
        assert spec.name == f"grid_{place + 1}"
        trials = Planner(spec, fingerprints(spec)).grid()
        labels = {str(t.seed): variant.stages.labels.key for t in trials for variant in t.variants}
        assert labels == entry["label_artifacts"]


def test_the_command_of_a_row_has_a_name_that_a_sweep_may_have(tmp_path):
    spec = sweep_results.planner(tmp_path, f"name={'x' * 64}").spec
    for rank in (1, 12, 2000):
        words = shlex.split(command_for(spec, {"method.alpha_low": 0.2}, rank))
        found = load_spec(Path(words[2]), words[4::2])
        assert found.name.endswith(f"_{rank}")
        assert found.name != spec.name
