"""From sweep and lab file to the job: what cannot work is refused here, with its place."""

from __future__ import annotations

from pathlib import Path

import labs
import pytest

from aream.errors import ConfigError
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError
from orchestrator.submission.describe import _check_locations
from orchestrator.submission.lab import read_lab
from orchestrator.submit import main

ROOT = Path(__file__).resolve().parents[3]
SECRET = "s3cr-t-w0rd"
OVERRIDES = labs.LAB["overrides"]


def test_the_command_runs_the_sweep_with_the_labs_settings_before_the_users(tmp_path):
    job, _ = labs.described(tmp_path, "store.uri=s3://mine/store", "train.lr=0.1")
    assert job.command("x.yaml") == [
        "python", "-m", "orchestrator.sweep", "x.yaml", "--address", "auto",
        "--set", 'runs="/srv/runs"', "--set", 'store.uri="s3://lab/store"', "--set", 'tracking.uri="http://mlflow:5000"',
        "--set", "store.uri=s3://mine/store", "--set", "train.lr=0.1",
    ]  # fmt: skip
    assert job.sweep == labs.SWEEP


def test_equal_jobs_have_one_digest_and_others_another(tmp_path):
    first, again = labs.described(tmp_path)[0], labs.described(tmp_path)[0]
    other = labs.described(tmp_path, "train.lr=0.1")[0]
    assert first.digest == again.digest != other.digest
    assert first.folder_digest == other.folder_digest


@pytest.mark.parametrize(
    ("extra", "changes", "message"),
    [
        ("trian: {}\n", {}, r"sweep.yaml:8: trian: unknown key"),
        ("", {"overrides": {"store.uri": "artifacts", "tracking.uri": "http://m"}}, r"store.uri: given artifacts:"),
        ("", {"overrides": {"tracking.uri": "http://m"}}, r"store.uri: not given, so /srv/runs/artifacts"),
        ("", {"overrides": {"store.uri": "s3://a/b"}}, r"tracking.uri: not given"),
        ("runs: mine\n", {"overrides": {**OVERRIDES, "runs": "mine"}}, r"runs: given 'mine'; need an a"),
        ("", {"overrides": {**OVERRIDES, "backbone.weights": "w.pth"}}, r"weights: given 'w.pth'; on"),
        ("", {"overrides": {**OVERRIDES, "backbone.weights": "~/w.pth"}}, r"weights: given '~/w.pth'; on"),
        ("", {"overrides": {**OVERRIDES, "axes": {"backbone.weights": ["/w.pth", "x.pth"]}}}, r"given .x.pth.; on"),
        ("", {"overrides": {**OVERRIDES, "axes": {"labels.refiner": ["none", {"name": "psa", "trained": "a.pth"}]}}},
         r"trained: given 'a.pth'; on"),
        ("segmentation: {labels: mine}\n", {}, r"labels: given 'mine'; on"),
        ("segmentation: {axes: {model.weights: [null, w.pth]}}\n", {}, r"weights: given 'w.pth'; on"),
        ("search: {trials: 2, storage: 'sqlite:///own.db'}\n", {}, r"search.storage: given 'own.db'; on"),
        ("", {"shared": True, "overrides": {**OVERRIDES, "store.uri": "own"}}, r"store.uri: given 'own'; on"),
        ("", {"overrides": {**OVERRIDES, "tracking.uri": "sqlite:///own.db"}}, r"tracking.uri: given 'sqlite:///own.db'"),
        ("", {"overrides": {**OVERRIDES, "search": {"trials": 2, "storage": f"postgresql://u:{SECRET}@h/d"}}},
         r"leave the password out"),
        (f"# postgresql://u:{SECRET}@h/d\n", {}, r"sweep.yaml:8: # postgresql://u:\*\*\*@h/d: .*leave the pass"),
    ],
)  # fmt: skip
def test_what_cannot_work_there_is_refused(tmp_path, extra, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        labs.described(tmp_path, extra=extra, **changes)
    assert SECRET not in str(caught.value)


def test_a_plug_in_is_named_by_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cam_own.py").write_text("")
    with pytest.raises(ConfigError, match=r"plugins: given 'cam_own.py'; on the cluster that is another folder"):
        _check_locations(load_spec(labs.write_sweep(tmp_path)), {"plugins": ["cam_own.py"]})


def test_a_folder_that_all_nodes_see_may_hold_the_store(tmp_path):
    job, _ = labs.described(tmp_path, shared=True, overrides={"tracking.uri": "http://m"})
    assert job.shared


def test_the_tracking_server_may_come_from_the_environment(tmp_path):
    environment = {"MLFLOW_TRACKING_URI": "http://m"}
    job, _ = labs.described(tmp_path, overrides={"store.uri": "s3://a/b"}, environment=environment)
    assert job.environment == environment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": "runs"}, r"lab.yaml:2: runs: need an absolute folder, got 'runs'"),
        ({"run": "/x"}, r"lab.yaml:9: run: unknown key \(did you mean runs\?\)"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": SECRET}}, r"environment: AWS_SECRET_ACCESS_KEY: name it under"),
        ({"environment": {"MLFLOW_TRACKING_URI": f"http://u:{SECRET}@m"}}, r"MLFLOW_TRACKING_URI: name it"),
        ({"slurm": {"setup": [f"export DATABASE=postgresql://u:{SECRET}@h/d"]}}, r"setup: holds a password"),
        ({"environment": {"A": 1}}, r"lab.yaml:4: environment: given"),
        ({"secrets": ["A B"]}, r"'A B' is not a valid name of a variable"),
        ({"worker": {"least": 3, "most": 2}}, r"lab.yaml:6: worker.least: need 0 to 2"),
        ({"worker": {"gpu": 1}}, r"lab.yaml:6: worker.gpu: unknown key \(did you mean gpus\?\)"),
        ({"ray": {"address": "head:8265"}}, r"lab.yaml:7: ray.address: need http://HOST:PORT"),
        ({"ray": {"address": f"http://u:{SECRET}@head:8265"}}, r"lab.yaml:7: ray.address: a user or password does not"),
        ({"kuberay": {"images": "x"}}, r"lab.yaml:8: kuberay.images: unknown key \(did you mean image\?\)"),
        ({"kuberay": {"redis": {"adress": "x"}}}, r"kuberay.redis.address: missing"),
        ({"kuberay": {"tolerations": [{"key": "gpu", "value": "a"}]}}, r"value: needs `operator: Equal`"),
    ],
)  # fmt: skip
def test_a_wrong_lab_file_is_told_with_its_line_whatever_the_target(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message) as caught:
        read_lab(labs.write_lab(tmp_path, **changes), "kuberay")
    assert SECRET not in str(caught.value)


def test_a_target_that_needs_a_section_says_so(tmp_path):
    with pytest.raises(SpecError, match=r"ray.address: missing"):
        read_lab(labs.write_lab(tmp_path, ray=None), "ray")


def test_targets_are_the_folders_modules(tmp_path, capsys):
    assert main([str(labs.write_sweep(tmp_path)), "--to", "k8s", "--lab", str(labs.write_lab(tmp_path))]) == 2
    assert "has no 'k8s'; it has: kuberay, ray, slurm" in capsys.readouterr().err


def test_no_lab_file_is_one_line(tmp_path, capsys):
    assert main([str(labs.write_sweep(tmp_path)), "--to", "ray", "--lab", str(tmp_path / "none.yaml")]) == 2
    message = capsys.readouterr().err
    assert "none.yaml: cannot be read" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["x.yaml", "--status", "a"], ["--status", "a", "--stop", "a"]])
def test_one_thing_at_a_time(arguments, capsys):
    assert main([*arguments, "--to", "ray"]) == 2
    assert "give a SWEEP.yaml, or one of" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["ray", "kuberay", "slurm"])
def test_the_example_of_a_lab_file_is_one(target, capsys):
    example = ROOT / "docker" / "lab.example.yaml"
    assert main([str(ROOT / "sweeps" / "thresholds.yaml"), "--to", target, "--lab", str(example), "--dry-run"]) == 0
    assert "s3://aream/store" in capsys.readouterr().out
