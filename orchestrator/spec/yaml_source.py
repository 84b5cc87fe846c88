"""YAML with the line of every key, read so that nothing in it can surprise: plain data only, bounded, no aliases."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aream.errors import ConfigError
from orchestrator.spec.names import check_text
from workers.processes.masking import hide, masked

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 20_000
"""Keys, values and lists of one file: what the parser goes through in a few seconds."""
MAX_KEY = 200
MAX_MESSAGE = 1000
MAX_PROBLEMS = 50
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters no name, path or text needs, and that end a path, break a line or show another text than is read."""
FOR_EDITORS = "yaml-language-server:"
"""Begins a comment that names the file's schema."""
DOTTED_SECTIONS = ("axes", "segmentation.axes")
"""Mappings whose keys are dotted names themselves."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a sweep file."""

    key: str
    message: str
    where: str
    """FILE:LINE, or the override."""

    def __str__(self) -> str:
        message = _printable(self.message, MAX_MESSAGE)
        where = _printable(self.where, MAX_MESSAGE)
        # In a key, a letter that only looks like another one must be told apart from it.
        return f"{where}: {ascii(masked(self.key))[1:-1][:MAX_KEY]}: {message}" if self.key else f"{where}: {message}"


class SpecError(ConfigError):
    """Everything that is wrong with a sweep file, one problem a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        shown = [str(problem) for problem in self.problems[:MAX_PROBLEMS]]
        if len(self.problems) > MAX_PROBLEMS:
            shown.append(f"and {len(self.problems) - MAX_PROBLEMS} more problems")
        super().__init__("\n".join(shown))


def _printable(text: str, most: int) -> str:
    """One line of bounded length without passwords, whatever stands in it."""
    text = masked(text)
    kept = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core scalars: 1e-4 is a number, on and yes are words."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (the base class reads it so)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


@dataclass
class SweepSource:
    """A sweep file as plain data, and where each key stands."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    header: str = ""
    """The comment the file opens with."""

    def where(self, key: str) -> str:
        """The place of a key, or of the closest key above it."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return str(self.path)

    def problem(self, key: str, message: str) -> Problem:
        return Problem(key, message, self.where(key))


def read_source(path: Path, overrides: Sequence[str]) -> SweepSource:
    """Read a sweep file and apply ``KEY=VALUE`` overrides.

    Raises:
        SpecError: not readable, not YAML, or YAML beyond plain bounded data.
    """
    try:
        check_text(path)
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise SpecError([Problem("", "cannot be read: it is not a regular file", str(path))])
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SpecError([Problem("", f"given {size} bytes; at most {MAX_BYTES} are allowed", str(path))])
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([Problem("", f"cannot be read: need UTF-8 text ({error})", str(path))]) from error
    except SpecError:
        raise
    except (OSError, ValueError) as error:
        raise SpecError([Problem("", f"cannot be read: {error}", str(path))]) from error
    source = SweepSource(path, header=_header(text))
    data = _load(text, str(path), source.places)
    if not isinstance(data, dict):
        raise SpecError([Problem("", "the file must hold a mapping of keys to values", str(path))])
    source.data = data
    _hide_addresses(data.get("notify"))
    for override in overrides:
        _apply(source, override)
    return source


def read_overrides(overrides: Sequence[str]) -> SweepSource:
    """A source that consists of ``KEY=VALUE`` overrides alone.

    Raises:
        SpecError: one is not of that form.
    """
    source = SweepSource(Path("--set"))
    for override in overrides:
        _apply(source, override)
    return source


def _header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith("#"):
            words = line.lstrip("# ").rstrip()
            lines += [] if words.startswith(FOR_EDITORS) else [words]
        elif lines or line.strip() not in ("", "---"):
            break
    return " ".join(lines).strip()


def _load(text: str, origin: str, places: dict[str, str], key: str = "") -> Any:
    try:
        loader = _Loader(text)
        _refuse_growth(text, origin)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise SpecError([Problem("", f"not YAML: {getattr(error, 'problem', None) or error}", where)]) from error
    except RecursionError as error:
        raise SpecError([Problem("", f"nested deeper than {MAX_DEPTH} levels", origin)]) from error
    except SpecError:
        raise
    except (ValueError, OverflowError) as error:  # "\\UFFFFFFFF" and its kin
        raise SpecError([Problem("", f"not YAML: {error}", origin)]) from error
    return _plain(loader, node, key, origin, places) if node is not None else None


def _refuse_growth(text: str, origin: str) -> None:
    """Before anything is composed: an alias of aliases grows beyond any memory, and long lists take minutes."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecError([Problem("", "anchors and aliases are not allowed", f"{origin}:{line}")])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if values > MAX_VALUES:
            raise SpecError([Problem("", f"more than {MAX_VALUES} keys and values", f"{origin}:{line}")])
        if depth > MAX_DEPTH:
            raise SpecError([Problem("", f"nested deeper than {MAX_DEPTH} levels", f"{origin}:{line}")])


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


def _plain(loader: _Loader, node: yaml.Node, key: str, origin: str, places: dict[str, str]) -> Any:
    where = f"{origin}:{_line(node)}"
    places.setdefault(key, where)
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag not in ("map", "seq", "str", "int", "float", "bool", "null"):
        raise SpecError([Problem(key, f"given the tag {node.tag}; only plain values are allowed", where)])
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name, line = key_node.value, f"{origin}:{_line(key_node)}"
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(name, str) or not name:
                raise SpecError([Problem(key, "keys must be plain text", line)])
            _check_key(name, line)
            if name in mapping:
                raise SpecError([Problem(f"{key}.{name}".strip("."), "duplicate key", line)])
            inner = f"{key}.{name}".strip(".")
            places[inner] = line
            mapping[name] = _plain(loader, value_node, inner, origin, places)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, f"{key}[{index}]", origin, places) for index, item in enumerate(node.value)]
    return _scalar(node, tag, key, where)


def _scalar(node: yaml.Node, tag: str, key: str, where: str) -> Any:
    if forbidden := FORBIDDEN.search(node.value):
        raise SpecError([Problem(key, f"the character {forbidden.group()!a} is not allowed", where)])
    given = node.value if len(node.value) <= 40 else f"{node.value[:40]}..."
    out_of_range = SpecError([Problem(key, f"given {given}; numbers must be finite and fit 64 bits", where)])
    if tag == "int" and len(node.value) > 40:  # int() of very many digits is refused by Python, with other words
        raise out_of_range
    try:
        value = {
            "str": lambda: node.value,
            "int": lambda: int(node.value),
            "float": lambda: float(node.value.replace(".inf", "inf").replace(".nan", "nan").lower()),
            "bool": lambda: {"true": True, "false": False}[node.value.lower()],
            "null": lambda: {"": None, "~": None, "null": None}[node.value.lower()],
        }[tag]()
    except (ValueError, KeyError) as error:
        raise SpecError([Problem(key, f"given {given!r}; it is not a {tag}", where)]) from error
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and not -(2**63) <= value < 2**63
    ):
        raise out_of_range
    return value


def _check_key(name: str, where: str) -> None:
    if len(name) > MAX_KEY or name.count(".") > MAX_DEPTH:
        given = f"given {name[:40]!r}... of {len(name)} characters"
        raise SpecError([Problem("", f"{given}; keys have at most {MAX_KEY}, with {MAX_DEPTH} dots", where)])
    if not name.isprintable():
        raise SpecError([Problem("", f"given {name!a}; keys hold letters that can be seen", where)])


def _apply(source: SweepSource, override: str) -> None:
    if override.startswith("notify"):
        _hide_addresses([part.removeprefix("notify").lstrip(".") for part in override.partition("=")[::2]])
    shown = masked(override)
    origin = f"--set {shown if len(shown) <= MAX_KEY else shown[:MAX_KEY] + '...'}"
    key, equals, text = override.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise SpecError([Problem("", "need KEY=VALUE with a dotted key, such as train.epochs=5", origin)])
    _check_key(key, origin)
    if len(text) > MAX_BYTES:
        raise SpecError([Problem(key, f"given {len(text)} characters; at most {MAX_BYTES} are allowed", origin)])
    value = _load(text, origin, {}, key)
    target, parts = source.data, _parts(key)
    for part in parts[:-1]:
        inner = target.get(part)
        if isinstance(inner, str):  # a component given by its name alone
            inner = {"name": inner}
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise SpecError([Problem(key, f"{part} holds {inner!r}, not a section", origin)])
        target[part] = inner
        target = inner
    target[parts[-1]] = value
    source.places = {
        known: place for known, place in source.places.items() if not known.startswith((f"{key}.", f"{key}["))
    }
    source.places[key] = origin
    for end in range(1, len(parts)):
        source.places.setdefault(".".join(parts[:end]), origin)


def _hide_addresses(notify: object) -> None:
    """A webhook's address is a secret, and no part of this section is one: pasted there, no message shows it."""
    if isinstance(notify, dict):
        _hide_addresses([*notify.keys(), *notify.values()])
    elif isinstance(notify, list):
        for item in notify:
            _hide_addresses(item)
    elif isinstance(notify, str):
        for address in [notify, *re.split(r"[\s'\"\[\]{}<>,]+", notify)]:
            if "/" in address:
                hide(address.rstrip(":"))


def _parts(key: str) -> list[str]:
    for section in DOTTED_SECTIONS:
        if key.startswith(f"{section}."):
            return [*section.split("."), key.removeprefix(f"{section}.")]
    return key.split(".")
