"""What sweeps ask of nodes, on a cluster whose nodes differ."""

from __future__ import annotations

import json
import time

import psutil
import pytest

import sweeps

pytestmark = pytest.mark.integration
SMALLEST = ("axes={method.alpha_low: [0.25]}", "segmentation=null", "train.epochs=2")


@pytest.fixture(scope="module")
def cluster():
    """A head, and a node with a custom resource."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        head = {"num_cpus": 2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        cluster.add_node(num_cpus=1, resources={"a100": 1})
        try:
            yield cluster
        finally:
            cluster.shutdown()


def options(*settings: str) -> list[str]:
    return [f"--set={text}" for text in (*SMALLEST, *settings)]


def run(cluster, sweep, *settings: str, expect: int = 0) -> str:
    return sweeps.run(sweep, f"--address={cluster.address}", *options(*settings), expect=expect)


def test_trials_go_where_their_custom_resource_is(cluster, tmp_path):
    sweep = sweeps.write_small(tmp_path)
    run(cluster, sweep, "resources.trial.custom.a100=1")
    more = "seeds=[1]"  # a sweep with nothing left to compute asks for nothing
    refused = run(cluster, sweep, more, "resources.trial.custom.h100=1", expect=2)
    assert "resources.trial.custom.h100: given 1; the largest node of this cluster has 0" in refused
    assert "a100 1" in refused
    both = run(cluster, sweep, more, "resources.trial.custom.a100=1", "resources.trial.cpu=2", expect=2)
    assert "resources.trial: given CPU 2, a100 1; no node has all of it" in both


def test_auto_is_no_gpu_where_there_is_none(cluster, tmp_path):
    sweep = sweeps.write_small(tmp_path)
    said = run(cluster, sweep, "resources={trial: {gpu: auto}, segmentation: {gpu: auto}}")
    assert "resources.trial.gpu: auto is 0: the cluster has no GPU" in said
    folder = tmp_path / "runs" / "small"
    assert json.loads((folder / "config.json").read_text())["resources"]["trial"]["gpu"] == 0
    summary = sweeps.summary(tmp_path)
    assert summary["settled"]["trial"] == "the cluster has no GPU"
    assert "resources.trial.gpu: auto became 0: the cluster has no GPU." in (folder / "report.md").read_text()
    keys = summary["ranking"][0]["trial_keys"]
    run(cluster, sweep, "resources={trial: {gpu: 0}}")
    assert sweeps.summary(tmp_path)["ranking"][0]["trial_keys"] == keys
    assert max(sweeps.times_run(tmp_path).values()) == 1


def test_a_trial_of_two_processes_survives_the_loss_of_one(cluster, tmp_path):
    sweep = sweeps.write_small(tmp_path)
    two = "resources={trial: {cpu: 2, processes: 2}}"
    longer = "train.epochs=12"
    with sweeps.launched(sweep, f"--address={cluster.address}", *options(two, longer)) as process:
        try:
            victim = None
            until = time.monotonic() + 400
            while victim is None and time.monotonic() < until and process.poll() is None:
                ranks = [child for child in psutil.process_iter(["cmdline"]) if _ours(child, cluster)]
                checkpoints = list((tmp_path / "runs" / "artifacts" / "checkpoints").glob("train_cam*"))
                victim = ranks[0] if ranks and checkpoints else None
                time.sleep(0.2)
            assert victim is not None, process.stdout.read()
            victim.kill()
            said, _ = process.communicate(timeout=500)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert max(sweeps.times_run(tmp_path).values()) == 2
    (entry,) = sweeps.summary(tmp_path)["ranking"]
    alone = tmp_path / "alone"
    alone.mkdir()
    run(cluster, sweeps.write_small(alone), longer)
    (expected,) = sweeps.summary(alone)["ranking"]
    assert entry["metrics"]["val/map"] == pytest.approx(expected["metrics"]["val/map"], abs=0.02)
    assert entry["metrics"]["pseudo/miou"] == pytest.approx(expected["metrics"]["pseudo/miou"], abs=0.02)
    assert entry["trial_keys"] != expected["trial_keys"]


def _ours(process: psutil.Process, cluster) -> bool:
    """Whether it is a rank of a trial of this cluster."""
    try:
        if "workers.rank_main" not in process.cmdline():
            return False
        raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
        return bool(raylets & {parent.pid for parent in process.parents()})
    except psutil.Error:
        return False


def test_a_cluster_that_may_grow_is_waited_for_and_says_so(cluster, tmp_path):
    sweep = sweeps.write_small(tmp_path)
    waits = ("resources.trial.custom.h100=1", "resources.autoscaling=true")
    with sweeps.launched(sweep, f"--address={cluster.address}", *options(*waits)) as process:
        try:
            sweeps.read_until(process, "waiting for resources: need CPU 1, h100 1 on one node; free in the cluster:")
            assert "waiting for resources: need CPU 1, h100 1" in sweeps.status(sweep)
            node = cluster.add_node(num_cpus=1, resources={"h100": 1})
            said, _ = process.communicate(timeout=500)
        finally:
            process.kill()
    cluster.remove_node(node)
    assert process.returncode == 0, said


def test_a_local_cluster_does_not_grow(tmp_path):
    sweep = sweeps.write_small(tmp_path)
    refused = sweeps.run(sweep, *options("resources.autoscaling=true", "resources.trial.custom.h100=1"), expect=2)
    assert "resources.trial.custom.h100: given 1" in refused
