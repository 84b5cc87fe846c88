"""The RayJob against the schema of KubeRay's own CRD, where no field is known but those it lists."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import labs
import pytest
import yaml
from crd import problems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aream.errors import ConfigError
from orchestrator.submission.targets import kuberay
from orchestrator.submission.targets.kuberay.client import RayJob
from orchestrator.submission.targets.kuberay.manifest import manifest
from orchestrator.submit import main

FULL: dict[str, Any] = {
    "image": "registry.lab/aream:1",
    "namespace": "lab",
    "secret": "aream",
    "image_pull_secret": "registry",
    "runs_claim": "runs",
    "mounts": [{"claim": "voc", "path": "/data/VOC 2012"}],
    "gpu_resource": "nvidia.com/mig-1g.10gb",
    "resources": {"a100": 1},
    "node_selector": {"gpu": "a100"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, {"key": "x", "operator": "Equal", "value": "y"}],
    "redis": {"address": "redis:6379", "secret": "redis"},
    "queue": "gpus",
    "deny_ingress": True,
}
SAME_SIZE = {**labs.LAB["worker"], "least": 4}


@pytest.mark.slow
@pytest.mark.parametrize("section", [labs.LAB["kuberay"], FULL], ids=["least", "everything"])
def test_the_schema_takes_it(schema, tmp_path, section):
    worker = SAME_SIZE if "queue" in section else labs.LAB["worker"]
    job, config = labs.described(tmp_path, kuberay=section, worker=worker, shared="runs_claim" in section)
    assert problems(schema, yaml.safe_load(kuberay.open_target(config).render(job))) == []


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of every object whose keys are fields, not names that somebody chose."""
    free = ("labels", "annotations", "rayStartParams", "nodeSelector", "requests", "limits")
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from places(item, (*path, index))
    elif isinstance(data, dict) and (not path or path[-1] not in free):
        for key, value in data.items():
            yield (*path, key)
            yield from places(value, (*path, key))


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_misspelt_field_does_not_pass(schema, tmp_path, data):
    job, config = labs.described(tmp_path, kuberay=FULL, worker=SAME_SIZE, shared=True)
    content = manifest(job, config, 1)
    *above, key = data.draw(st.sampled_from(list(places(content))))
    broken = copy.deepcopy(content)
    owner = broken
    for step in above:
        owner = owner[step]
    letter = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:letter] + key[letter] + key[letter:]
    owner[wrong] = owner.pop(key)
    assert problems(schema, broken)


def test_nothing_runs_as_root_and_secrets_are_names_only(tmp_path):
    job, config = labs.described(tmp_path, kuberay=FULL, worker=SAME_SIZE, shared=True)
    content = manifest(job, config, 1)
    cluster = content["spec"]["rayClusterSpec"]
    pods = [content["spec"]["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    pods += [group["template"] for group in cluster["workerGroupSpecs"]]
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            for variable in container.get("env", []):
                assert (variable["name"] in job.secrets) == ("secretKeyRef" in variable.get("valueFrom", {}))
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_autoscaler_decides_only_where_it_has_a_choice(tmp_path):
    job, config = labs.described(tmp_path)
    cluster = manifest(job, config, 1)["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 4)
    job, config = labs.described(tmp_path, worker=SAME_SIZE)
    cluster = manifest(job, config, 1)["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    assert cluster["workerGroupSpecs"][0]["replicas"] == 4


@pytest.mark.parametrize("worker", [labs.LAB["worker"], SAME_SIZE])
def test_nobody_asks_kubernetes_but_the_autoscaler(tmp_path, worker):
    job, config = labs.described(tmp_path, worker=worker)
    spec = manifest(job, config, 1)["spec"]
    cluster = spec["rayClusterSpec"]
    pods = [spec["submitterPodTemplate"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    pods += [] if cluster["enableInTreeAutoscaling"] else [cluster["headGroupSpec"]["template"]]
    assert [pod["spec"].get("automountServiceAccountToken") for pod in pods] == [False] * len(pods)


@pytest.mark.parametrize(
    "override", ["where=['train.lr<1']", "axes={train.lr: [1e-2, 1e-3]}", "name=$(touch x)'\"`id`\\ é"]
)
def test_the_command_arrives_as_it_was_given(tmp_path, override):
    """Run by a real shell, with a python that says what it is given."""
    job, section = labs.described(tmp_path)
    job = dataclasses.replace(job, overrides=(override, "a b=c"))
    head = manifest(job, section, 1)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    python.chmod(0o755)
    script = tmp_path / "run.sh"
    script.write_text(head["metadata"]["annotations"]["aream-sweep/run.sh"])
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["sh", str(script)], env={"PATH": path}, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ["-m", *manifest_command(job)]


def manifest_command(job: Any) -> list[str]:
    """With what the target adds, without the interpreter."""
    replaced = dataclasses.replace(job, overrides=(*job.overrides, "resources.autoscaling=true"))
    return replaced.command("/etc/aream/sweep.yaml")[2:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kuberay": {"secret": "aream"}}, r"kuberay.image: missing"),
        ({"kuberay": {"image": "x"}}, r"kuberay.secret: missing; name the Secret that holds AWS_ACCESS_KEY_ID"),
        ({"shared": True}, r"kuberay.runs_claim: missing"),
        ({"kuberay": {**labs.LAB["kuberay"], "queue": "q"}}, r"worker.least: given 1 with 4 at most; Kueue"),
        ({"overrides": {**labs.LAB["overrides"], "resources": {"trial": {"gpu": 2}}}}, r"resources.trial: asks for"),
    ],
)  # fmt: skip
def test_what_the_cluster_could_never_run_is_refused(tmp_path, changes, message):
    job, config = labs.described(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        kuberay.open_target(config).render(job)


@pytest.mark.parametrize("name", ["swept", "2024-voc", "7", "A.b_C", f"{'9' * 63}z", "x" * 64])
def test_the_name_is_one_that_kuberay_takes(tmp_path, name):
    """DNS-1035, and 47 characters at most: another one is never begun."""
    job, config = labs.described(tmp_path, f"name={json.dumps(name)}")
    made = manifest(job, config, 999_999)["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", made)
    assert len(made) <= 47


@pytest.mark.parametrize(
    ("status", "ended", "code"),
    [
        ({}, False, 1),
        ({"jobDeploymentStatus": "Initializing"}, False, 1),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, False, 1),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, True, 0),
        ({"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "name"}, True, 2),
    ],
)
def test_a_job_that_kuberay_does_not_take_has_ended(status, ended, code):
    job = RayJob({"metadata": {"name": "x"}, "status": status})
    assert (job.has_ended, job.exit_status) == (ended, code)


def test_a_dry_run_asks_nobody_and_prints_one_document(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    lab, sweep = labs.write_lab(tmp_path), labs.write_sweep(tmp_path)
    assert main([str(sweep), "--to", "kuberay", "--lab", str(lab), "--image", "other:2", "--dry-run"]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert content["kind"] == "RayJob"
    assert "other:2" in json.dumps(content)
    assert labs.LAB["kuberay"]["image"] not in json.dumps(content)


def test_no_kubectl_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    lab, sweep = labs.write_lab(tmp_path), labs.write_sweep(tmp_path)
    assert main([str(sweep), "--to", "kuberay", "--lab", str(lab)]) == 2
    assert capsys.readouterr().err == "kuberay: kubectl is not on the PATH; or print the manifest with --dry-run\n"
