"""The Dockerfile is clean, what goes into its build is chosen, and its folder hides no package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools import tool

ROOT = Path(__file__).resolve().parents[2]


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("hadolint"), str(file)], capture_output=True, text=True, timeout=240)


def test_dockerfile_is_clean():
    done = hadolint(ROOT / "docker" / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_linter_would_say_so(tmp_path):
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM debian\nRUN apt-get install wget\n")
    assert "DL3006" in hadolint(careless).stdout


WANTED = {
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "aream/methods/aream.py",
    "workers/stage.py",
    "orchestrator/submission/targets/slurm/job.sh",
    "sweeps/thresholds.yaml",
    "docker/requirements.txt",
    "docker/image/aream-health",
}
KEPT_OUT = {
    ".env",
    "docker/.env",
    "lab.env",
    "workers/.env",
    "workers/lab.env",
    "aream/key.pem",
    "aream/id.key",
    "sweeps/.aws/credentials",
    "runs/thresholds/config.json",
    "data/VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg",
    ".venv/bin/python",
    ".git/config",
    "aream/__pycache__/errors.cpython-311.pyc",
    "tests/conftest.py",
    "benchmarks/results/x.json",
    "docker/compose.yaml",
    "weights.pth",
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    root = tmp_path / "checkout"
    for name in WANTED | KEPT_OUT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    shutil.copy(ROOT / ".dockerignore", root)
    return root


def test_dockerignore_lets_in_what_is_needed_and_nothing_else(checkout):
    """Read as docker's own client for Python reads it."""
    build = pytest.importorskip("docker.utils.build")
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sent = {name for name in build.exclude_paths(str(checkout), patterns) if (checkout / name).is_file()}
    assert sent - {".dockerignore"} == WANTED  # the builder is sent its own rules too


@pytest.mark.integration
def test_dockerignore_as_buildah_reads_it(checkout, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("buildah needs root here")
    buildah = tool("buildah")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    place = ["--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "state"), "--storage-driver", "vfs"]
    names = {"tag": "localhost/context", "layout": f"dir:{tmp_path / 'image'}"}
    for command in (
        ["bud", "--isolation", "chroot", "--file", str(tmp_path / "Dockerfile"), "--tag", names["tag"], str(checkout)],
        ["push", "--disable-compression", names["tag"], names["layout"]],
    ):
        done = subprocess.run([buildah, *place, *command], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    (layer,) = [file for file in (tmp_path / "image").iterdir() if is_tar(file)]
    listed = subprocess.run(["tar", "-tf", layer], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in listed if not name.endswith("/")} == WANTED


def is_tar(file: Path) -> bool:
    return file.read_bytes()[257:262] == b"ustar"


def test_the_folder_docker_shadows_no_package():
    """mlflow imports the PyPI package of that name, also with the checkout first on the path."""
    pytest.importorskip("docker")
    program = "import docker, sys; print(docker.__file__); docker.DockerClient"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": "."},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "site-packages" in done.stdout
