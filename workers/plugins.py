"""Plug-ins: a file outside of this project in the place of one more file of a registry.

Each is one Python file that says with ``KIND = "backbones"`` what it is; its name is the module's, as in the registry's
own folder, which is then searched beside a temporary one. What a file holds is handed to other processes through their
environment, that of a node's workers by Ray's runtime environment, and is part of the identity of stages that use it.
"""

from __future__ import annotations

import ast
import atexit
import base64
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aream import discover
from aream.config import Component, is_config
from aream.data.files import read_bounded
from aream.errors import ConfigError, DataError, DataUnavailable

VARIABLE = "AREAM_PLUGINS"
"""Holds the files for processes that are started from here."""
HOOK = f"{__name__}.set_up"
REGISTRIES: Mapping[str, str] = {
    **{
        kind: f"aream.{kind}"
        for kind in ("augmentations", "backbones", "datasets", "methods", "refiners", "segmenters")
    },
    "stages": "workers.stages",
    "trackers": "orchestrator.tracking.backends",
}
"""Kind of a plug-in -> the package that it becomes a module of."""
MOST_BYTES = 96 * 1024
"""Of all plug-ins, compressed: what an environment variable may hold."""


@dataclass(frozen=True)
class Plugin:
    kind: str
    name: str
    place: str
    """The file or module that it was read from, for people."""
    source: str

    @property
    def module(self) -> str:
        return f"{REGISTRIES[self.kind]}.{self.name}"

    @functools.cached_property
    def digest(self) -> str:
        """Of what it holds; 16 hex digits."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


_active: dict[str, Plugin] = {}
"""By module."""


def active() -> list[Plugin]:
    """The plug-ins of this process."""
    return list(_active.values())


def read_plugin(place: str, folder: Path) -> Plugin:
    """A plug-in by the path of its file, from ``folder`` on, or by the name of a module that is installed.

    Raises:
        ConfigError: no such file or module, or one that does not say what it is.
    """
    path = folder / place if place.endswith(".py") else _of_module(place)
    source = _source(path)
    return _checked(Plugin(_kind(path, source), path.stem, place, source))


def installed_plugins() -> Iterator[Plugin]:
    """Those that installed packages declare as entry points ``aream.backbones`` and so on.

    Raises:
        ConfigError: one that cannot be used; the message names it.
    """
    for kind in REGISTRIES:
        for point in importlib.metadata.entry_points(group=f"aream.{kind}"):
            yield _checked(Plugin(kind, point.name, point.value, _source(_of_module(point.value))))


def activate(plugins: Iterable[Plugin]) -> None:
    """Make modules of them, here and in the processes that are started from here.

    Raises:
        ConfigError: one has the name of another module, has changed since it was read, or they are too large.
    """
    for plugin in plugins:
        known = _active.get(plugin.module)
        if known is not None and known.source != plugin.source:
            if Path(known.place).absolute() == Path(plugin.place).absolute():
                raise ConfigError(
                    f"{plugin.place}: has changed since this process read it, and a module is read once; restart the "
                    "process (in a notebook, its kernel) to use it as it is now"
                )
            raise ConfigError(f"{plugin.place}: another plug-in is called {plugin.name} too: {known.place}")
        package = importlib.import_module(REGISTRIES[plugin.kind])
        if known is None and plugin.name in discover.names(package):
            raise ConfigError(
                f"{plugin.place}: {package.__name__} has a module {plugin.name}; give the file another name"
            )
        if known is None:
            folder = _folder() / plugin.kind
            folder.mkdir(exist_ok=True)
            (folder / f"{plugin.name}.py").write_text(plugin.source, encoding="utf-8")
            if str(folder) not in package.__path__:
                package.__path__.append(str(folder))
            discover.forget()
            importlib.invalidate_caches()
            _active[plugin.module] = plugin
    if _active:
        os.environ[VARIABLE] = _packed(active())


@functools.cache
def activate_installed() -> None:
    """Activate what installed packages declare, once a process.

    Raises:
        ConfigError: as of :func:`installed_plugins` and :func:`activate`.
    """
    activate(installed_plugins())


def handed_on() -> dict[str, Any]:
    """The part of Ray's runtime environment that brings them to workers; empty without any."""
    if not _active:
        return {}
    return {"env_vars": {VARIABLE: os.environ[VARIABLE]}, "worker_process_setup_hook": HOOK}


def set_up() -> None:
    """Activate what the process that started this one handed on."""
    packed = os.environ.get(VARIABLE)
    if packed:
        activate(Plugin(**given) for given in json.loads(zlib.decompress(base64.b85decode(packed))))


def used_by(stage: str, config: Any) -> dict[str, str]:
    """Module -> digest of the plug-ins that a stage and its configuration name, and of those that these import. One of
    another registry that has the name counts too: a component does not know its own."""
    names = {stage, *_named(config)}
    left = [plugin for plugin in _active.values() if plugin.name in names]
    found: dict[str, str] = {}
    while left:
        plugin = left.pop()
        if plugin.module not in found:
            found[plugin.module] = plugin.digest
            left += [_active[module] for module in _imported(plugin.source) & _active.keys()]
    return dict(sorted(found.items()))


def _named(value: Any) -> Iterator[str]:
    """The names of all components in a configuration."""
    if isinstance(value, Component):
        yield value.name
    if is_config(value):
        for name in value.__dataclass_fields__:
            yield from _named(getattr(value, name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _named(item)
    elif isinstance(value, Mapping):
        yield from _named(list(value.values()))


def _imported(source: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def _of_module(name: str) -> Path:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{name}: no such module ({error}); need PATH.py or the name of an installed one") from error
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise ConfigError(f"{name}: no such module; need PATH.py or the name of an installed one")
    if found.submodule_search_locations is not None:
        raise ConfigError(f"{name}: is a package; a plug-in is one file, so name a module in it")
    return Path(found.origin)


def _source(path: Path) -> str:
    try:
        return read_bounded(path, 2**20).decode()
    except DataUnavailable:
        raise
    except (DataError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a plug-in ({error})") from error


def _kind(path: Path, source: str) -> str:
    """Read without running it."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no Python ({error})") from error
    for line in body:
        targets = [target.id for target in getattr(line, "targets", []) if isinstance(target, ast.Name)]
        if isinstance(line, ast.Assign) and targets == ["KIND"] and isinstance(line.value, ast.Constant):
            return str(line.value.value)
    raise ConfigError(f"{path}: does not say what it is; need a line KIND = one of {', '.join(map(repr, REGISTRIES))}")


def _checked(plugin: Plugin) -> Plugin:
    if plugin.kind not in REGISTRIES:
        raise ConfigError(f"{plugin.place}: KIND is {plugin.kind!r}; need one of {', '.join(map(repr, REGISTRIES))}")
    if not plugin.name.isidentifier() or not discover.is_offered(plugin.name):
        raise ConfigError(
            f"{plugin.place}: its name, {plugin.name!r}, is what a sweep file says: need letters, digits and _"
        )
    return plugin


def _packed(plugins: Sequence[Plugin]) -> str:
    given = [{"kind": p.kind, "name": p.name, "place": p.place, "source": p.source} for p in plugins]
    packed = base64.b85encode(zlib.compress(json.dumps(given).encode(), 9)).decode()
    if len(packed) > MOST_BYTES:
        raise ConfigError(f"plugins: have {len(packed)} bytes, compressed; at most {MOST_BYTES} are allowed")
    return packed


@functools.cache
def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="aream-plugins-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
