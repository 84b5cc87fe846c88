"""A sweep whose epochs were judged by another metric than was asked for says so."""

from __future__ import annotations

import pytest
from sweep_results import alpha_score, compute, planner, summarised, workspace

from orchestrator.reporting.terminal import print_results

SAID = "train.select_by: given class, but the mAP of classes is the same in every epoch"


@pytest.mark.slow
@pytest.mark.parametrize(("images", "told"), [(1, True), (4, False)])
def test_the_summary_says_that_the_asked_for_metric_could_not_vary(tmp_path, capsys, images, told):
    plan = planner(tmp_path, f"data.val_images={images}", "train.select_by=class")
    compute(workspace(plan).store(), plan.grid(), alpha_score)
    content, folder = summarised(plan)
    found = [line for line in content["remarks"] if line.startswith(SAID)]
    assert len(found) == told
    print_results(content)
    shown = " ".join(capsys.readouterr().out.split())
    assert (SAID in shown) == told
    assert ("the highest mAP of images" in shown) == told
    assert (SAID in (folder / "report.md").read_text()) == told
