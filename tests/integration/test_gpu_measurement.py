"""What is asked of nodes with GPUs, where Ray has been told of one that is not there."""

from __future__ import annotations

import pytest
import ray

import sweeps
from orchestrator.cluster import connection
from orchestrator.cluster.gpu_measurement import GpuShareMeasurement
from orchestrator.cluster.gpu_share import GpuNode
from orchestrator.cluster.resources import whole_gpus
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import Limits
from orchestrator.workspace import Workspace

pytestmark = pytest.mark.integration


@pytest.fixture
def measurement(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    spec = load_spec(sweeps.write_small(tmp_path), ["resources={trial: {cpu: 2, gpu: auto}}"])
    workspace = Workspace(store_uri=None, runs=tmp_path / "runs", name=spec.name)
    planner = Planner(spec, fingerprints(spec))
    said: list[str] = []
    supervisor = Supervisor(workspace.control_file, workspace.folder / "spent.json", Limits())
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        yield GpuShareMeasurement(planner, workspace, supervisor, said.append), planner, said
    finally:
        ray.shutdown()


def test_a_gpu_that_is_not_there_is_not_shared(measurement):
    measured, planner, said = measurement
    assert whole_gpus("trial", planner.spec.resources.trial, connection.nodes(), autoscales=False).gpus == 1
    assert measured.share(planner.grid()) is None
    assert said == [
        "rehearsing 1 of 2 trials, to see how many share a GPU",
        "the rehearsal failed, each trial gets a whole GPU: Ray assigns GPUs here, but torch sees none",
    ]
    assert measured._nodes(123) == [GpuNode(cpus=2.0, gpus=1.0, gpu_bytes=123)]
