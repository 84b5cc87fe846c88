"""The wheel, installed elsewhere: everything that a user without a checkout runs is in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import sweeps

pytestmark = pytest.mark.integration
BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
PACKAGES = ("aream", "workers", "orchestrator")
LAB = """
runs: {runs}
shared: true
overrides: {{tracking.uri: "http://mlflow:5000"}}
worker: {{cpus: 2, memory_gib: 4}}
ray: {{address: "http://127.0.0.1:1"}}
kuberay: {{image: "registry.lab/aream:1", secret: aream, runs_claim: runs}}
slurm: {{partition: work, venv: /opt/venv}}
"""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=sweeps.ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (sweeps.ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the tracked files alone, as from a fresh clone."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in tracked():
        if name.split("/")[0] in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sweeps.ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-c", BUILD, built],
        cwd=source, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of an environment that holds the wheel, and finds what it needs where the tests do."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=300)
    (own,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(own)  # what an installer does with a wheel of pure Python
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def python(installed: Path, folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [installed, *arguments],
        cwd=folder, env={**environment, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


AREAM = "from importlib.metadata import entry_points; entry_points(group='console_scripts')['aream'].load()()"
"""What the script does that an installer makes of the wheel's entry point."""


def aream(installed: Path, folder: Path, *arguments: str) -> str:
    return python(installed, folder, "-c", AREAM, *arguments)


def run(installed: Path, folder: Path, *arguments: str) -> str:
    return python(installed, folder, "-m", *arguments)


def test_every_file_of_the_packages_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as content:
        inside = {name for name in content.namelist() if name.split("/")[0] in PACKAGES}
    assert inside == {name for name in tracked() if name.split("/")[0] in PACKAGES}


@pytest.mark.parametrize("target", ["ray", "kuberay", "slurm"])
def test_it_says_what_it_would_send(installed, tmp_path, target):
    path = sweeps.write_small(tmp_path)
    (tmp_path / "lab.yaml").write_text(LAB.format(runs=tmp_path / "runs"))
    said = run(installed, tmp_path, "orchestrator.submit", str(path), "--to", target, "--dry-run")
    assert "orchestrator.sweep" in said


def test_a_sweep_runs_from_it_in_a_folder_with_any_sign(installed, tmp_path):
    folder = tmp_path / "a b%2F#?c'd"
    folder.mkdir()
    path = sweeps.write_small(tmp_path)
    text = path.read_text().partition("segmentation:")[0].replace("epochs: 5", "epochs: 2")
    lines = [line for line in text.splitlines() if not line.startswith("runs:")]
    (folder / "small.yaml").write_text("\n".join(lines) + "\n")
    said = run(installed, folder, "orchestrator.sweep", "small.yaml")
    assert (folder / "runs" / "small" / "report.html").is_file()
    assert (folder / "runs" / "mlflow.db").is_file()
    assert "events wait" not in said or "run the same command again to send them" in said


def test_a_first_sweep_from_file_to_report(installed, tmp_path):
    path, following = aream(installed, tmp_path, "init", "first").splitlines()
    assert path == "first/sweep.yaml"
    name, *plan = shlex.split(following)
    assert name == "aream"
    assert json.loads(aream(installed, tmp_path, *plan, "--json"))["trials"]
    fewer = {"train.epochs": 2, "train.warmup_epochs": 1, "data.train_images": 24, "data.val_images": 12}
    fewer |= {"segmentation.train.epochs": 1, "axes.method.alpha_low": "[0.25]"}
    changes = [part for key, value in fewer.items() for part in ("--set", f"{key}={value}")]
    assert "ranked by pseudo/miou" in aream(installed, tmp_path, "sweep", path, *changes)
    report = tmp_path / "runs" / "shapes" / "report.html"
    report.unlink()
    assert str(report) in aream(installed, tmp_path, "report", "shapes")
    assert report.is_file()
    assert "finished" in aream(installed, tmp_path, "status", "shapes")
