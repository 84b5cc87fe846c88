"""Published numbers in a sweep file: checked against what the sweep has, and beside ours in every report."""

from __future__ import annotations

import re

import pytest
import sweep_results

from orchestrator.reporting.terminal import print_results
from orchestrator.results.paper import compared
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError

PAPER = """
paper:
  source: Table 1
  rows:
    - {where: {method.alpha_low: 0.3}, value: 0.52, tolerance: 0.015}
    - {where: {method.alpha_low: 0.3, inference.layers: all}, value: 0.6, source: README}
    - {where: {method.name: aream}, metric: cam/miou, value: 0.25}
    - {where: {method.alpha_low: 0.2}, metric: seg/miou, value: 0.7}
  context:
    - {name: Another method, metric: seg/miou, value: 0.617}
segmentation: {select: {top: 1}}
"""


def refused(folder, paper: str, more: str = "") -> list[str]:
    path = folder / "grid.yaml"
    path.write_text(sweep_results.GRID.format(runs=folder / "runs", more=f"paper: {paper}\n{more}"))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{where: {method.alpha_lo: 0.3}, value: 0.5}", r"paper\.rows\[0\]\.where\.method\.alpha_lo: no such key"),
        ("{where: {method.alpha_low: 0.35}, value: 0.5}", r"paper\.rows\[0\]\.where: .*no configuration of the sweep"),
        ("{where: {method.name: mctformer}, value: 0.5}", r"paper\.rows\[0\]\.where: .*no configuration"),
        (
            "{metric: pseudo/mio, value: 0.5}",
            r"paper\.rows\[0\]\.metric: given pseudo/mio; there is no such metric \(did you mean pseudo/miou\?\)",
        ),
        ("{metric: layer/03/miou, value: 0.5}", r"paper\.rows\[0\]\.metric: given layer/03/miou"),
        ("{metric: seg/miou, value: 0.5}", r"paper\.rows\[0\]\.metric: .*no segmentation section"),
        ("{value: 66.4}", r"paper\.rows\[0\]\.value: need an mIoU in \[0, 1\], got 66.4"),
        ("{value: 0.5, tolerance: -0.1}", r"paper\.rows\[0\]\.tolerance: need a number >= 0"),
        ("{valu: 0.5}", r"paper\.rows\[0\]\.valu: unknown key \(did you mean value\?\)"),
        ("{metric: pseudo/miou}", r"paper\.rows\[0\]\.value: missing"),
    ],
)
def test_what_the_sweep_does_not_have_is_refused_with_its_line(tmp_path, row, message):
    paper = f"{{source: Table 1, rows: [{row}]}}"
    found = refused(tmp_path, paper)
    line = (tmp_path / "grid.yaml").read_text().splitlines().index(f"paper: {paper}") + 1
    assert any(re.search(rf"grid\.yaml:{line}: {message}", problem) for problem in found), found


def test_no_rows_and_no_source_are_refused(tmp_path):
    assert "rows: need at least one" in refused(tmp_path, "{source: x, rows: []}")[0]
    assert "paper.source: missing" in refused(tmp_path, "{rows: [{value: 0.5}]}")[0]


def test_an_analysis_brings_its_metrics(tmp_path):
    path = tmp_path / "grid.yaml"
    more = "analyses: [layer_gain]\npaper: {source: Figure 10, rows: [{metric: layer/best/miou, value: 0.61}]}"
    path.write_text(sweep_results.GRID.format(runs=tmp_path / "runs", more=more))
    assert load_spec(path).paper.rows[0].metric == "layer/best/miou"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    plan = sweep_results.planner(folder, more=PAPER)
    sweep_results.compute(sweep_results.workspace(plan).store(), plan.grid(), sweep_results.alpha_score)
    return sweep_results.summarised(plan)


@pytest.mark.slow
def test_the_best_ranked_configuration_of_a_row_is_compared(finished):
    content, _ = finished
    rows = content["paper"]["rows"]
    # 0.5 + 0.1 * alpha, half a hundredth more by the second seed; layers none are the best, all cost a tenth
    assert rows[0]["ours"] == pytest.approx(0.535)
    assert rows[0]["difference"] == pytest.approx(0.015)
    assert rows[0]["within"]
    assert content["ranking"][rows[0]["rank"]]["config"] == {"method.alpha_low": 0.3, "inference.layers": "none"}
    assert rows[1]["ours"] == pytest.approx(0.435)
    assert not rows[1]["within"]
    assert (rows[1]["source"], rows[0]["source"]) == ("README", "Table 1")
    assert rows[2]["rank"] == 0  # no axis, but a key all configurations have
    assert rows[2]["difference"] == pytest.approx(0)


@pytest.mark.slow
def test_what_is_not_there_yet_has_no_number(finished):
    row = finished[0]["paper"]["rows"][3]  # the segmenter learned from the labels of another alpha
    assert row["ours"] is row["difference"] is row["within"] is row["rank"] is None
    assert row["paper"] == 0.7


def test_only_seeds_with_a_number_count(tmp_path):
    config, per_seed = {"method.alpha_low": 0.2, "inference.layers": "none"}, {"0": {"seg/miou": 0.7}, "1": {}}
    entry = {"config": config, "metrics": {"seg/miou": 0.7}, "spread": {}, "seeds": [0, 1], "per_seed": per_seed}
    found = compared(sweep_results.planner(tmp_path, more=PAPER).spec, [entry])
    assert found["rows"][3]["seeds"] == 1


def test_the_pages_put_them_beside_each_other(finished):
    _, folder = finished
    markdown = (folder / "report.md").read_text()
    line = next(line for line in markdown.splitlines() if line.startswith("| method.alpha_low=0.3 |"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == [
        "method.alpha_low=0.3", "pseudo/miou", "0.5200", "0.5350 ± 0.0071", "+0.0150", "± 0.015", "yes", "2", "Table 1",
    ]  # fmt: skip
    html = (folder / "report.html").read_text()
    for text in ("Against the paper", "+0.0150", "Another method", "not run here", "Fewer than 3 seeds"):
        assert text in markdown
        assert text in html


def test_the_terminal_says_it_too(finished, capsys):
    print_results(finished[0])
    printed = " ".join(capsys.readouterr().out.split())
    assert "Table 1: method.alpha_low=0.3 pseudo/miou 0.5200, ours 0.5350 (+0.0150, within ± 0.015)" in printed
    assert (
        "README: method.alpha_low=0.3, inference.layers=all pseudo/miou 0.6000, ours 0.4350 (-0.1650, beyond" in printed
    )
    assert "0.7000, ours" not in printed
