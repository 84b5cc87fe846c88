"""The house rules a reader relies on, read off the syntax trees."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aream.discover import is_offered

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"aream": 0, "workers": 1, "orchestrator": 2}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ONLY_IN = {
    "ray": "orchestrator/",
    "mlflow": ("orchestrator/tracking/backends/mlflow.py", "orchestrator/tracking/backends/_mlflow_"),
    "optuna": ("orchestrator/search", "orchestrator/results/importance.py"),
    "boto3": "workers/artifacts/storages/",
    "botocore": "workers/artifacts/storages/",
    "tensorboardX": "orchestrator/tracking/backends/",
}
MOST_LINES = 300


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(parsed(path)):
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


def rooms() -> dict[str, set[str]]:
    """Folder or file at a package's door -> those that it imports while it is imported itself, of the same package."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        for name in _imported_at_once(parsed(path).body):
            target = name if name in modules else name.rpartition(".")[0]
            here, there = (".".join(name.split(".")[:2]) for name in (module, target))
            if target in modules and here != there and not _is_empty(modules[target]):
                found.setdefault(here, set()).add(there)
    return found


def _imported_at_once(statements: list[ast.stmt]) -> Iterator[str]:
    for node in statements:
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield from _imported_at_once(node.body)


def _is_empty(path: Path) -> bool:
    """A registry, which is imported to look for names in it."""
    return path.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in parsed(path).body)


def test_no_room_imports_one_that_imports_it():
    left = rooms()
    while free := [room for room, others in left.items() if not others & left.keys()]:
        left = {room: others for room, others in left.items() if room not in free}
    assert left == {}, "these rooms stand in a circle, or lead to one"


REGISTRIES = (
    "aream/augmentations", "aream/backbones", "aream/datasets", "aream/methods", "aream/refiners", "aream/segmenters",
    "orchestrator/reporting/figures", "orchestrator/submission/targets", "orchestrator/tracking/backends",
    "workers/artifacts/storages", "workers/stages",
)  # fmt: skip
"""What stands there, but for contracts and what has a leading underscore, is found by its name."""


def test_what_has_an_underscore_is_used_in_its_own_folder_only():
    """A module or name with a leading underscore may change without a look at other packages."""
    for path in FILES:
        here = path.parent.relative_to(ROOT).parts
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            for name in node.names:
                parts = [*node.module.split("."), name.name]
                private = next((at for at, part in enumerate(parts) if re.match("_[a-z]", part)), None)
                if parts[0] in PACKAGES and private is not None:
                    assert here[:private] == tuple(parts[:private]), f"{path}: {'.'.join(parts)}"


def test_no_file_is_left_over():
    """Each is named by another one, found in a registry, or a door: a command, or what Python users import."""
    texts = {path: path.read_text() for path in FILES}
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts.items()}
    files_with = Counter(word for found in words.values() for word in found)
    doors = {ROOT / "orchestrator" / name for name in ("api.py", "cli.py")}
    for path in FILES:
        place, stem = str(path.parent.relative_to(ROOT)), path.stem
        found = place in REGISTRIES and is_offered(stem)
        if stem == "__init__" or found or path in doors or (place == "orchestrator" and "def main(" in texts[path]):
            continue
        assert files_with[stem] > (stem in words[path]), f"{path}: named by no file"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


NOT_BUILT_IN = ("os", "tarfile", "Image")
"""Those whose ``open`` gives no text."""


def _is_text_of_an_unnamed_encoding(call: ast.Call) -> bool:
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    given = [
        value.value
        for value in (*call.args, *(word.value for word in call.keywords))
        if isinstance(value, ast.Constant)
    ]
    if "encoding" in {word.arg for word in call.keywords}:
        return False
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) < 2
    if method and ast.unparse(call.func).rpartition(".")[0] in NOT_BUILT_IN:
        return False
    return name in ("open", "fdopen") and not any("b" in mode for mode in given if isinstance(mode, str))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_read_and_written_in_one_encoding(path):
    """A machine without a language (plain C) would read ASCII."""
    calls = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))
    assert [call.lineno for call in calls if _is_text_of_an_unnamed_encoding(call)] == []


WRITES = {"write_text", "write_bytes", "savefig"}
WRITES_ALONE = {
    "orchestrator/tracking/tracker.py": "a spooled file: its event, written after it, tells its size",
    "orchestrator/submission/targets/ray/__init__.py": "a temporary folder that is sent away",
    "orchestrator/reporting/drawing.py": "a picture in memory",
    "orchestrator/reporting/gallery.py": "a temporary folder",
    "orchestrator/reporting/segmenter_gallery.py": "a temporary folder",
}


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "orchestrator")], ids=str)
def test_the_driver_writes_files_whole_or_not_at_all(path):
    """What outlives a driver goes through ``workers/processes/atomic_write.py``."""
    calls = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    made = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    renames = {call.attr for call in calls if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "os"}
    assert not (made & WRITES) | (renames & {"replace", "rename"}) or str(path.relative_to(ROOT)) in WRITES_ALONE


def test_docker_is_no_package():
    """mlflow imports the PyPI package of that name."""
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_no_two_tests_have_one_file_name():
    """pytest would read the first one twice, and end before any test of the other."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
