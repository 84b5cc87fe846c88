"""``gpu: auto`` where no cluster is needed to know; tests/integration/test_resources.py has the rest."""

from __future__ import annotations

import pytest

from orchestrator.cluster.auto_gpus import NOTHING_RAN, AutoGpus, expected
from orchestrator.monitor.progress import ProgressDisplay
from orchestrator.monitor.state import SweepState
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.planner import Planner
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import Limits
from orchestrator.workspace import Workspace

AUTO = "resources: {trial: {cpu: 2, gpu: auto}, segmentation: {gpu: auto}}"


@pytest.fixture
def made(tmp_path):
    """A sweep's specification and who decides for it; Ray must not be needed."""

    def made(resources: str = AUTO):
        path = tmp_path / "sweep.yaml"
        path.write_text(f"name: x\n{resources}\n")
        workspace = Workspace(store_uri=None, runs=tmp_path / "runs", name="x")
        supervisor = Supervisor(workspace.control_file, workspace.folder / "spent.json", Limits())
        progress = ProgressDisplay(SweepState(workspace.state_file, "x"), ["pseudo/miou"])
        return load_spec(path), AutoGpus(workspace, supervisor, progress, lambda: pytest.fail("Ray was asked for"))

    return made


def test_a_number_stays_what_it_is(made):
    spec, auto = made("resources: {trial: {gpu: 0.25}, segmentation: {gpu: 1}}")
    assert auto.for_trials(Planner(spec, {}), []) is spec
    assert auto.for_segmentation(spec, ["a job"]) is spec
    assert auto.remembered(spec, "trial") is spec
    assert auto.whole(spec, "trial") is spec.resources.trial
    assert auto.why == {}


def test_what_was_never_decided_costs_no_gpu(made):
    spec, auto = made()
    found = auto.for_segmentation(auto.remembered(spec, "trial"), [])
    assert (found.resources.trial.gpu, found.resources.segmentation.gpu) == (0.0, 0.0)
    assert found.resources.trial.cpu == 2.0
    assert auto.why == {"trial": NOTHING_RAN, "segmentation": NOTHING_RAN}


def test_a_decision_outlives_the_run_that_made_it(made, capsys):
    spec, auto = made()
    decided = auto._settle(spec, "trial", 0.3333, "three fit")
    assert decided.resources.trial.gpu == 0.3333
    assert decided.resources.segmentation.gpu == "auto"
    assert "resources.trial.gpu: auto is 0.3333: three fit" in capsys.readouterr().out
    _, later = made()
    assert later.remembered(spec, "trial") == decided
    assert later.why == {"trial": "three fit"}


def test_how_many_share_a_gpu_is_no_part_of_an_identity_and_whether_there_is_one_is(made):
    spec, auto = made("data: {name: shapes, image_size: 32, train_images: 4, val_images: 2}\n" + AUTO)
    decided = auto._settle(spec, "trial", 0.5, "two fit")
    prints = {repr(spec.base.data): "content"}
    planned = Planner(spec, prints, frozenset({"trial"})).grid()[0].key
    assert planned == Planner(decided, prints).grid()[0].key
    assert planned != Planner(spec, prints).grid()[0].key
    assert expected(auto.workspace, spec) == {"trial"}
    none = auto._settle(spec, "trial", 0.0, "no GPU")
    assert Planner(none, prints).grid()[0].key == Planner(spec, prints, expected(auto.workspace, spec)).grid()[0].key
