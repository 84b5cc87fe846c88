"""What is sent to Ray's job server, and that a server which is not there is told at once."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import labs
import pytest
import yaml
from ports import dead_port

from aream.errors import ConfigError
from orchestrator.submission.targets import ray as target
from orchestrator.submit import main

ROOT = Path(__file__).resolve().parents[3]


def rendered(folder: Path, *overrides: str, **changes: object) -> str:
    job, config = labs.described(folder, *overrides, target="ray", **changes)
    return target.open_target(config).render(job)


def test_a_dry_run_shows_the_request_and_the_file(tmp_path):
    text = rendered(tmp_path, "train.lr=0.1")
    request = yaml.safe_load(text.partition("\n\n")[0])
    assert text.startswith("# POST http://127.0.0.1:1/api/jobs/\n")
    assert request["submission_id"].startswith("swept-")
    assert request["entrypoint"].endswith("--set train.lr=0.1")
    assert request["runtime_env"]["env_vars"]["AWS_DEFAULT_REGION"] == "us-east-1"
    assert text.endswith(labs.SWEEP)


def test_a_secrets_value_is_nowhere(tmp_path, monkeypatch, capsys):
    for name in (*labs.LAB["secrets"], "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "planted-5e7c")
    for name in ("ray", "kuberay"):
        lab, sweep = labs.write_lab(tmp_path), labs.write_sweep(tmp_path)
        assert main([str(sweep), "--to", name, "--lab", str(lab), "--dry-run"]) == 0
        output = capsys.readouterr().out
        assert "AWS_SECRET_ACCESS_KEY" in output
        assert "planted-5e7c" not in output


@pytest.mark.parametrize("image", [None, "registry.lab/aream:1"])
def test_the_command_does_what_it_says(tmp_path, image):
    """Run by a real shell, with a python that says what it is given and shows the file."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\ncat "$3" >&2\n')
    python.chmod(0o755)
    runs = str(tmp_path / "runs")
    ray = {"address": "http://127.0.0.1:1", "image": image, "temp_dir": str(tmp_path)}
    odd = "name='x y' $(touch x) \"`id`\" é"
    job, config = labs.described(tmp_path, target="ray", ray=ray, runs=runs)
    job = dataclasses.replace(job, overrides=(odd,))
    request = yaml.safe_load(target.open_target(config).render(job).partition("\n\n# WORK")[0])
    (tmp_path / "swept.yaml").write_text(job.sweep)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run(
        request["entrypoint"], shell=True, env=environment, cwd=tmp_path, capture_output=True, check=True
    )
    arguments = done.stdout.decode().split("\0")[:-1]
    assert arguments[:2] == ["-m", "orchestrator.sweep"]
    assert arguments[3:] == ["--address", "auto", "--set", odd]
    assert done.stderr.decode().strip() == job.sweep.strip()
    assert not (tmp_path / "x").exists()
    unset = subprocess.run(request["entrypoint"], shell=True, env={}, cwd=tmp_path, capture_output=True, text=True)
    assert unset.returncode == 2
    assert "AWS_ACCESS_KEY_ID" in unset.stderr


def test_an_image_shares_one_folder_with_its_node(tmp_path):
    ray = {"address": "http://127.0.0.1:1", "image": "x"}
    with pytest.raises(ConfigError, match="runs: given /srv/runs; with an image, Ray shows a container no folder"):
        rendered(tmp_path, ray=ray)
    assert "image_uri: x" in rendered(tmp_path, ray=ray, runs="/tmp/ray/runs")


def test_an_image_and_a_sweep_beyond_what_a_command_holds(tmp_path):
    ray = {"address": "http://127.0.0.1:1", "image": "x"}
    with pytest.raises(ConfigError, match=r"may have 100000 bytes, and has \d+"):
        rendered(tmp_path, ray=ray, runs="/tmp/ray/runs", extra=f"# {'x' * 100_000}\n")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        yield listening.getsockname()[1]


@pytest.fixture
def dead() -> Iterator[int]:
    with dead_port() as port:
        yield port


@pytest.mark.parametrize("kind", ["silent", "dead"])
@pytest.mark.parametrize("wish", [[], ["--status", "swept-1"], ["--stop", "swept-1"], ["--follow", "swept-1"]])
def test_a_server_that_does_not_answer(request, tmp_path, capsys, monkeypatch, kind, wish):
    monkeypatch.setenv("RAY_ADDRESS", "http://203.0.113.1:8265")  # which Ray alone would ask
    address = f"http://127.0.0.1:{request.getfixturevalue(kind)}"
    lab = labs.write_lab(tmp_path, ray={"address": address})
    assert main([*(wish or [str(labs.write_sweep(tmp_path))]), "--to", "ray", "--lab", str(lab)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"ray.address: no Ray job server answers at {address} (")
    assert message.count("\n") == 1


def test_a_server_of_another_kind(tmp_path, capsys):
    served = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert served.stdout is not None
        port = served.stdout.readline().split("port ")[1].split()[0]
        lab = labs.write_lab(tmp_path, ray={"address": f"http://127.0.0.1:{port}"})
        assert main(["--status", "x", "--to", "ray", "--lab", str(lab)]) == 2
    finally:
        served.terminate()
        served.communicate()
    message = capsys.readouterr().err
    assert "404" in message
    assert message.count("\n") == 1


def test_help_answers_before_ray_and_torch_are_read():
    code = (
        "import sys, runpy\nsys.argv[1:] = ['--help']\n"
        "try:\n    runpy.run_module('orchestrator.submit', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print([name for name in ('ray', 'torch', 'mlflow', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) == []
