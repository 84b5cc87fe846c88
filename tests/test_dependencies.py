"""What pyproject.toml names is pinned, and what is installed is what was tested."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted({canonical(re.match(r"[\w.-]+", text)[0]) for group in groups for text in group})


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), "a line of constraints.txt is no exact pin"
    return {canonical(name): version for name, version in pairs}


def test_every_direct_dependency_has_a_pin_and_nothing_else_has():
    assert sorted(pins()) == direct()


@pytest.mark.parametrize("name", direct())
def test_the_pinned_version_is_installed(name):
    """But for which build it is: `+cpu` and `+cu130` are of one version."""
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed here; `make test` installs it")
    assert installed.split("+")[0] == pins()[name]


@pytest.mark.slow
def test_torchvision_loads_beside_a_cpu_build_of_torch():
    """With what `aream` declares for it; in a process of its own, where nothing has loaded it before."""
    subprocess.run([sys.executable, "-c", "import aream, torchvision.transforms.v2, timm"], cwd=ROOT, check=True)
