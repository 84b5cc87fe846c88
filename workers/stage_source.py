"""Digest of the code that a stage runs: of what its ``run`` reaches in this project, prose aside.

Followed are names: from a function to the functions, classes and constants of this project that it names, and on from
those; of a class all of it. So a stage that takes a file's name from another one does not depend on the rest of that.
Syntax trees without docstrings are what counts: comments and formatting change nothing. What keeps and runs stages
(``MACHINERY``) is left out: results do not pass through it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.config import Component, is_config
from aream.discover import is_offered

if TYPE_CHECKING:
    from workers.stage import Stage

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aream", "workers")
MACHINERY = (
    "aream.discover", "aream.errors", "workers.analysis", "workers.artifacts", "workers.checkpoint", "workers.failures",
    "workers.metric", "workers.plugins", "workers.processes", "workers.ranks", "workers.stage", "workers.staging",
)  # fmt: skip
"""Modules, and packages with all that is in them."""
ENTRIES = ("Config", "run")
"""Names that a stage's file is asked for."""
ALL = "*"
Symbol = tuple[str, str]
"""A module and one of its names; ``*``: everything."""


def source_digest(stage: Stage) -> str:
    """Return the digest for the stage and the components that its configuration names; 16 hex digits."""
    return _digest(stage.name, component_modules(stage))


def component_modules(stage: Stage) -> tuple[str, ...]:
    """Return the modules of the components that the stage's configuration names, in order."""
    return tuple(sorted({type(one.config).__module__ for one in _components(stage.config)}))


def any_source_digest(name: str) -> str:
    """Return the digest for a stage with every component that it may find by a name; 16 hex digits."""
    found: list[str] = []
    while True:  # a component may take components of its own
        _, registries = reached([*_entries(name), *((module, ALL) for module in found)])
        offered = [f"{registry}.{path.stem}" for registry in sorted(registries) for path in _offered(registry)]
        if offered == found:
            return _digest(name, tuple(found))
        found = offered


def reached(start: Iterable[Symbol]) -> tuple[list[Symbol], set[str]]:
    """Return what some symbols reach, themselves included, in order; and the packages that components are looked for
    in."""
    seen: set[Symbol] = set()
    registries: set[str] = set()
    left = list(start)
    while left:
        symbol = left.pop()
        if symbol in seen or _is_machinery(symbol[0]):
            continue
        seen.add(symbol)
        for other in _named_by(*symbol):
            if other[1] == ALL and _file(other[0]).name == "__init__.py":
                registries.add(other[0])
            else:
                left.append(other)
    return sorted(seen), registries


def _entries(stage: str) -> list[Symbol]:
    return [(f"workers.stages.{stage}", name) for name in ENTRIES]


@functools.cache
def _digest(stage: str, components: tuple[str, ...]) -> str:
    symbols, _ = reached([*_entries(stage), *((module, ALL) for module in components)])
    text = "\n".join(f"{module} {name} {_code(module, name)}" for module, name in symbols)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Module:
    """One file, by the names that it defines and imports."""

    own: dict[str, list[ast.stmt]]
    always: list[ast.stmt]
    """Statements that run whatever is asked for."""
    imported: dict[str, Symbol]


@functools.cache
def _module(name: str) -> _Module:
    own: dict[str, list[ast.stmt]] = {}
    always: list[ast.stmt] = []
    imported: dict[str, Symbol] = {}
    for statement in _without_prose(ast.parse(_file(name).read_bytes())).body:
        if isinstance(statement, ast.ImportFrom):
            imported |= {
                alias.asname or alias.name: _imported(statement.module, alias.name) for alias in statement.names
            }
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            own.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in (node for each in targets for node in ast.walk(each)):
                if isinstance(target, ast.Name):
                    own.setdefault(target.id, []).append(statement)
        elif not isinstance(statement, ast.Import | ast.Pass) and not _for_types(statement):
            always.append(statement)
    return _Module(own, always, imported)


def _imported(module: str | None, name: str) -> Symbol:
    """Return what ``from module import name`` gives: a symbol, or a module as a whole."""
    inner = f"{module}.{name}"
    return (inner, ALL) if _file(inner).is_file() else (module or "", name)


@functools.cache
def _named_by(module: str, name: str) -> tuple[Symbol, ...]:
    """Symbols of this project that one names."""
    if not _file(module).is_file() or module.split(".")[0] not in PACKAGES:
        return ()
    known = _module(module)
    found: list[Symbol] = []
    if name == ALL:
        found += [*((module, own) for own in known.own), *known.imported.values()]
    elif name not in known.own and name in known.imported:  # handed on
        found.append(known.imported[name])
    for statement in (*known.own.get(name, ()), *known.always):
        imported = known.imported | _local_imports(statement)
        whole = {id(node.value): node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in imported:
                target, inner = imported[node.id]
                # Of a module that is imported as such, the part that is named.
                found.append((target, whole[id(node)]) if inner == ALL and id(node) in whole else (target, inner))
            elif isinstance(node, ast.Name) and node.id in known.own and node.id != name:
                found.append((module, node.id))
    return tuple(dict.fromkeys(symbol for symbol in found if symbol[0].split(".")[0] in PACKAGES))


def _local_imports(statement: ast.stmt) -> dict[str, Symbol]:
    return {
        alias.asname or alias.name: _imported(node.module, alias.name)
        for node in ast.walk(statement)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@functools.cache
def _code(module: str, name: str) -> str:
    known = _module(module) if _file(module).is_file() else _Module({}, [], {})
    return "\n".join(ast.dump(statement) for statement in (*known.own.get(name, ()), *known.always))


def _without_prose(tree: ast.Module) -> ast.Module:
    """A string that stands alone is a docstring, or what is said of the field above it."""
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _for_types(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test)


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _offered(registry: str) -> list[Path]:
    return [path for path in sorted(_file(registry).parent.glob("*.py")) if is_offered(path.stem)]


def _is_machinery(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in MACHINERY)


def _components(value: Any) -> Iterator[Component]:
    """All that a configuration names, however deep."""
    if isinstance(value, Component):
        yield value
    if is_config(value):
        for name in value.__dataclass_fields__:
            yield from _components(getattr(value, name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _components(item)
