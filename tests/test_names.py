"""What tests and benchmarks name of the product is there.

A test that is run rarely, and reads a name of a module that has gone, is else found out only where it is run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("aream", "workers", "orchestrator", "benchmarks")
READERS = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
OF_EVERY_MODULE = {"__file__", "__name__", "__doc__", "__path__", "__dict__"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def file_of(module: str) -> Path | None:
    """A product module's file; None: it is none of ours, or there is none."""
    if module.split(".")[0] not in PRODUCT:
        return None
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@functools.cache
def names_of(path: Path) -> frozenset[str]:
    """What a module binds outside of functions and classes, and the modules beside an ``__init__``."""
    found = set(OF_EVERY_MODULE)
    statements = list(parsed(path).body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
        statements += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    if path.name == "__init__.py":
        found |= {beside.stem for beside in path.parent.iterdir() if beside.suffix == ".py" or beside.is_dir()}
    return frozenset(found)


def missing(path: Path) -> Iterator[str]:
    modules: dict[str, Path] = {}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and (source := file_of(node.module)):
            for alias in node.names:
                if alias.name not in names_of(source):
                    yield f"{node.lineno}: {node.module}.{alias.name}"
                elif part := file_of(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = part
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and (source := file_of(alias.name)):
                    modules[alias.asname] = source
    bound = {node.arg for node in ast.walk(parsed(path)) if isinstance(node, ast.arg)} | {
        node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in bound:
            source = modules.get(node.value.id)
            if source and node.attr not in names_of(source):
                yield f"{node.lineno}: {node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_product_are_there(path):
    assert not list(missing(path))


def test_a_name_that_is_not_there_is_found(tmp_path):
    text = """
from aream import augmentations
from aream.augmentations import deit, gone
from aream.augmentations.deit import Config, Gone
import aream.engine.batches as batches
deit.build, deit._operations, batches.seeded, batches.sown, augmentations.deit, deit.__file__
"""
    path = tmp_path / "reader.py"
    path.write_text(text, encoding="utf-8")
    assert list(missing(path)) == [
        "3: aream.augmentations.gone",
        "4: aream.augmentations.deit.Gone",
        "6: deit._operations",
        "6: batches.sown",
    ]
