from __future__ import annotations

import pytest

from aream.errors import ConfigError
from orchestrator.cluster.resources import Node, places, refuse_unsatisfiable, requested, whole_gpus
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import Resource, Resources

HEAD = Node("head", {"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0})
A100 = Node("a", {"CPU": 4.0, "GPU": 2.0, "a100": 2.0, "accelerator_type:A100": 1.0})
RTX = Node("b", {"CPU": 64.0, "GPU": 1.0})
NODES = [HEAD, A100, RTX]


def refusal(*nodes: Node, **trial) -> str:
    with pytest.raises(ConfigError) as caught:
        refuse_unsatisfiable(Resources(trial=Resource(**trial)), nodes, ["trial"])
    return str(caught.value)


@pytest.mark.parametrize(
    "trial",
    [
        {"cpu": 8.0},
        {"cpu": 64.0, "gpu": 1.0},
        {"cpu": 4.0, "gpu": 2.0, "custom": {"a100": 2.0}},
        {"gpu": 0.25, "custom": {"accelerator_type:A100": 0.001}},
    ],
)
def test_what_one_node_has_is_taken(trial):
    refuse_unsatisfiable(Resources(trial=Resource(**trial)), NODES, ["trial"])


def test_a_refusal_names_what_is_missing_and_what_there_is():
    assert refusal(*NODES, cpu=65.0).startswith(
        "resources.trial.cpu: given 65; the largest node of this cluster has 64"
    )
    assert refusal(HEAD, gpu=0.25).startswith("resources.trial.gpu: given 0.25; the largest node of this cluster has 0")
    said = refusal(HEAD, A100, A100, custom={"h100": 1.0})
    assert "resources.trial.custom.h100: given 1; the largest node of this cluster has 0" in said
    assert "2 with CPU 4, GPU 2, h100 0, a100 2, accelerator_type:A100 1; 1 with CPU 8, GPU 0, h100 0" in said
    assert "node:" not in said
    assert "resources.autoscaling" in said


def test_resources_must_be_on_one_node():
    said = refusal(*NODES, cpu=8.0, gpu=1.0, custom={"a100": 1.0})
    assert said.startswith("resources.trial: given CPU 8, GPU 1, a100 1; no node has all of it")
    assert "1 with CPU 64, GPU 1, a100 0" in said


def test_a_cluster_of_many_kinds_is_told_in_bounds():
    said = refusal(*(Node(str(cpus), {"CPU": float(cpus)}) for cpus in range(1, 200)), gpu=1.0, custom={"x": 1.0})
    assert len(refusal(*(Node(str(n), {"CPU": float(n), "GPU": 1.0}) for n in range(1, 200)), custom={"x": 1.0})) < 600
    assert "given 1; the largest node of this cluster has 0" in said


def test_a_cluster_without_nodes():
    assert "the largest node of this cluster has 0" in refusal(cpu=1.0)


def test_what_ray_is_asked_for():
    assert requested(Resource(cpu=2.0)) == {"CPU": 2.0}
    assert requested(Resource(cpu=2.0, gpu=0.5, custom={"a100": 1.0})) == {"CPU": 2.0, "GPU": 0.5, "a100": 1.0}


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        ("{GPU: 1}", "need a name other than cpu, gpu, memory, object_store_memory, got 'GPU'"),
        ("{a100: 0}", "a100: need a fraction in (0, 1] or a whole number, got 0"),
        ("{a100: 1.5}", "a100: need a fraction in (0, 1] or a whole number, got 1.5"),
        ("{a100: many}", "resources.trial.custom: given {'a100': 'many'}; need a valid number"),
        ("[a100]", "resources.trial.custom: given ['a100']; need"),
    ],
)
def test_custom_resources_are_checked_with_the_file(tmp_path, custom, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: x\nresources: {{trial: {{custom: {custom}}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_spec(path)
    assert message in str(caught.value)


def test_custom_resources_of_a_file_and_an_override(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\nresources: {trial: {gpu: 0.5, custom: {a100: 1}}}\n")
    spec = load_spec(path, ["resources.segmentation.custom.fast_disk=0.5", "resources.autoscaling=true"])
    assert spec.resources.trial.custom == {"a100": 1.0}
    assert spec.resources.segmentation.custom == {"fast_disk": 0.5}
    assert spec.resources.autoscaling
    assert spec.resolved()["resources"]["trial"]["custom"] == {"a100": 1.0}


@pytest.mark.parametrize(
    ("resource", "nodes", "autoscales", "gpus"),
    [
        (Resource(gpu="auto"), [HEAD], False, 0),
        (Resource(gpu="auto"), NODES, False, 1),
        (Resource(gpu="auto", cpu=32.0), [A100], False, 0),
        (Resource(gpu="auto", custom={"a100": 1.0}), [RTX], False, 0),
        (Resource(gpu="auto"), [HEAD], True, 1),
        (Resource(gpu="auto", processes=2), NODES, False, 2),
        (Resource(gpu="auto", processes=2), [HEAD], False, 0),
        (Resource(gpu=0.5), [HEAD], False, 0.5),
    ],
)
def test_auto_is_a_gpu_a_process_or_none(resource, nodes, autoscales, gpus):
    whole = whole_gpus("trial", resource, nodes, autoscales=autoscales)
    assert whole.gpus == gpus
    assert whole.process_count == resource.process_count


def test_processes_need_their_gpus_on_one_node():
    with pytest.raises(ConfigError, match=r"resources\.trial\.processes: given 3, with a GPU each; the largest .* 2"):
        whole_gpus("trial", Resource(gpu="auto", processes=3), NODES, autoscales=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{trial: {gpu: 2, processes: 3}}", "resources.trial.gpu: need 0 or one for each of the 3 processes, got 2"),
        (
            "{trial: {gpu: 0.5, processes: 2}}",
            "resources.trial.gpu: need 0 or one for each of the 2 processes, got 0.5",
        ),
        ("{trial: {processes: 0}}", "resources.trial.processes: need a positive number or null, got 0"),
        ("{trial: {gpu: some}}", "resources.trial.gpu: given 'some'; need a valid number or 'auto'"),
        ("{segmentation: {gpu: 2}}", "resources.segmentation: a segmenter trains in one process"),
    ],
)
def test_processes_and_gpus_must_fit_each_other(tmp_path, given, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: x\nresources: {given}\n")
    with pytest.raises(ConfigError) as caught:
        load_spec(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("resource", "processes"),
    [
        (Resource(), 1), (Resource(gpu=0.5), 1), (Resource(gpu=1.0), 1), (Resource(gpu=4.0), 4),
        (Resource(processes=3), 3), (Resource(gpu=2.0, processes=2), 2), (Resource(gpu="auto"), 1),
    ],
)  # fmt: skip
def test_one_process_a_gpu(resource, processes):
    assert resource.process_count == processes


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"cpu": 1.0}, 12),
        ({"cpu": 3.0}, 3),
        ({"cpu": 1.0, "gpu": 0.5}, 4),
        ({"cpu": 1.0, "gpu": 0.1}, 8),
        ({"cpu": 1.0, "custom": {"a100": 1.0}}, 2),
        ({"cpu": 16.0}, 0),
    ],
)
def test_places_are_what_nodes_hold_beside_each_other(asked, count):
    nodes = [Node("1", {"CPU": 8.0, "GPU": 2.0, "a100": 2.0}), Node("2", {"CPU": 4.0})]
    assert places(Resource(**asked), nodes) == count
