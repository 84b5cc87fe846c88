"""A backbone and a method from outside of the checkout, on two nodes that have nothing but the project."""

from __future__ import annotations

import json

import pytest
from own_plugins import write_plugins

import sweeps

pytestmark = pytest.mark.integration

SWEEP = """
# Whose maps?
name: own
runs: {folder}/runs
plugins: [{folder}/mine/cam_vit.py, {folder}/mine/patch_classes.py]
data: {{name: shapes, image_size: 32, train_images: 8, val_images: 4}}
backbone: {{name: cam_vit, depth: 2}}
train: {{epochs: 2, warmup_epochs: 1, lr: 5e-4, lr_warmup_epochs: 0, batch_size: 4, image_size: 32}}
inference: {{image_size: 32}}
tracking: none
axes:
  method: [mean_affinity, patch_classes]
resources: {{trial: {{cpu: 1, processes: 2}}}}
"""


def test_a_sweep_of_plug_ins_runs_on_two_nodes(tmp_path, monkeypatch):
    """Each training in two processes, of which one is started by a worker."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "180")
    write_plugins(tmp_path / "mine")
    (tmp_path / "own.yaml").write_text(SWEEP.format(folder=tmp_path))
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}, shutdown_at_exit=False
    )
    try:
        cluster.add_node(num_cpus=1)
        said = sweeps.run(tmp_path / "own.yaml", "--address", cluster.address)
    finally:
        cluster.shutdown()
    content = json.loads((tmp_path / "runs/own/summary.json").read_text())
    assert content["failures"] == {}, said
    assert {entry["config"]["method"] for entry in content["ranking"]} == {"mean_affinity", "patch_classes"}
    assert [one["module"] for one in content["plugins"]] == ["aream.backbones.cam_vit", "aream.methods.patch_classes"]
    report = (tmp_path / "runs/own/report.md").read_text()
    for one in content["plugins"]:
        assert f"Plug-in {one['module']}: {one['place']}, {one['digest']}." in report
