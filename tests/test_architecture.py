"""The house rules a reader relies on, read off the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"aream": 0, "workers": 1, "orchestrator": 2}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ONLY_IN = {
    "ray": "orchestrator/",
    "mlflow": "orchestrator/tracking/backends/mlflow.py",
    "optuna": ("orchestrator/search", "orchestrator/results/importance.py"),
}
MOST_LINES = 320


def imported(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    name = str(path.relative_to(ROOT))
    level = PACKAGES[name.split("/")[0]]
    modules = imported(path)
    assert not {package for package, above in PACKAGES.items() if above > level} & modules
    for module, place in ONLY_IN.items():
        assert module not in modules or name.startswith(place), f"{module} belongs in {place}"
    if level == 0:
        assert not modules & {"argparse", "pydantic", "boto3", "os"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


WRITES = {"write_text", "write_bytes", "savefig"}
WRITES_ALONE = {
    "orchestrator/tracking/tracker.py": "a spooled file: its event, written after it, tells its size",
    "orchestrator/submission/targets/ray/__init__.py": "a temporary folder that is sent away",
    "orchestrator/reporting/drawing.py": "a picture in memory",
}


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "orchestrator")], ids=str)
def test_the_driver_writes_files_whole_or_not_at_all(path):
    """What outlives a driver goes through ``workers/processes/atomic_write.py``."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    renames = {call.attr for call in calls if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "os"}
    assert not (made & WRITES) | (renames & {"replace", "rename"}) or str(path.relative_to(ROOT)) in WRITES_ALONE


def test_docker_is_no_package():
    """mlflow imports the PyPI package of that name."""
    assert not (ROOT / "docker" / "__init__.py").exists()
