"""What a scheduler stopped, in a real sweep: out under its settings and told, run on without it."""

from __future__ import annotations

import json

import pytest

import sweeps
from aream.config import plain
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import Scheduler

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("on_a_cluster")]


def test_a_stopped_trial_is_told_and_runs_on_without_the_scheduler(tmp_path):
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().partition("segmentation:")[0])
    sweeps.changed(sweep, scheduler="{name: asha, grace_epochs: 3}")
    spec = load_spec(sweep)
    out, kept = Planner(spec, fingerprints(spec)).grid()
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    stopped = {"scheduler": plain(Scheduler(grace_epochs=3)), "trials": {out.key: [{"epoch": 4.0, "val/map": 0.1}]}}
    (folder / "stopped.json").write_text(json.dumps(stopped))
    output = sweeps.run(sweep)
    assert "1 stopped early and not ranked (1 by the scheduler" in output
    summary = json.loads((folder / "summary.json").read_text())
    assert {key for entry in summary["ranking"] for key in entry["trial_keys"]} == {kept.key}
    assert summary["stopped"] == {out.title: "stopped early by the scheduler"}
    assert "1 stopped early" in (folder / "report.md").read_text()
    assert "1 stopped early" in sweeps.status(sweep)
    sweep.write_text("".join(line for line in sweep.read_text().splitlines(True) if not line.startswith("scheduler")))
    output = sweeps.run(sweep)
    assert "stopped early" not in output
    summary = json.loads((folder / "summary.json").read_text())
    assert {key for entry in summary["ranking"] for key in entry["trial_keys"]} == {out.key, kept.key}
