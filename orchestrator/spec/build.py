"""Plain data to frozen configuration, strictly: every unknown key, wrong type and impossible value is collected."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import operator
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from aream import discover
from aream.config import Component
from aream.errors import ConfigError
from orchestrator.spec.names import absolute
from workers.processes.masking import masked
from workers.staging.cache import is_uri
from workers.staging.locations import with_locations

T = TypeVar("T")
Report = Callable[[str, str], None]
"""Takes a key and what is wrong with it."""


class Invalid(Exception):
    """A value could not be built; what is wrong was reported."""


def build(cls: type[T], mapping: object, key: str, report: Report, default: T | None = None) -> T:
    """An instance of a configuration class.

    Args:
        default: keys that are not given keep its values; None: the class's defaults.

    Raises:
        Invalid: something was reported.
    """
    if not isinstance(mapping, Mapping):
        report(key, f"given {show_given(mapping)}; need a section with {', '.join(_names(cls))}")
        raise Invalid
    values, valid = {}, True
    for name in mapping:
        if name not in _names(cls):
            close = difflib.get_close_matches(str(name), _names(cls), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            report(join(key, str(name)), f"unknown key{hint}; allowed are {', '.join(_names(cls)) or 'none'}")
            valid = False
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in mapping:
            try:
                current = getattr(default, field.name) if default is not None else _default(field)
                values[field.name] = _field(cls, field, mapping[field.name], join(key, field.name), report, current)
            except Invalid:
                valid = False
        elif default is not None:
            values[field.name] = getattr(default, field.name)
        elif _default(field) is dataclasses.MISSING:
            report(join(key, field.name), "missing; a value is needed")
            valid = False
    if not valid:
        raise Invalid
    try:
        return cls(**values)
    except ConfigError as error:
        names, colon, rest = str(error).partition(":")
        first = names.split(",")[0].strip()
        if colon and first in _names(cls):
            report(join(key, first), rest.strip() if names == first else str(error))
        else:
            report(key, str(error))
        raise Invalid from error


def build_component(package: str, value: object, key: str, report: Report, default: Component | None) -> Component:
    """``par`` or ``{name: par, iterations: 5}``; without a name the default's module is meant."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        report(key, f"given {show_given(value)}; need a name or a section with a name")
        raise Invalid
    name = value.get("name", default.name if default else None)
    if not isinstance(name, str):
        report(join(key, "name"), f"given {show_given(name)}; need one of {', '.join(_modules(package))}")
        raise Invalid
    try:
        module = discover.load(importlib.import_module(package), name)
    except ConfigError as error:
        report(join(key, "name"), str(error))
        raise Invalid from error
    rest = {inner: item for inner, item in value.items() if inner != "name"}
    same = default.config if default is not None and default.name == name else None
    return Component(name=name, config=build(module.Config, rest, key, report, same))


def _components(config_of: Callable[[str], type], value: object, key: str, report: Report) -> tuple[Component, ...]:
    """A list of names, or of sections with a name."""
    if not isinstance(value, list | tuple):
        report(key, f"given {show_given(value)}; need a list of names")
        raise Invalid
    built = []
    for index, item in enumerate(value):
        own = f"{key}[{index}]"
        section = {"name": item} if isinstance(item, str) else item
        name = section.get("name") if isinstance(section, Mapping) else None
        try:
            if not isinstance(section, Mapping) or not isinstance(name, str):
                raise ConfigError(f"given {show_given(item)}; need a name or a section with a name")
            rest = {inner: given for inner, given in section.items() if inner != "name"}
            built.append(Component(name=name, config=build(config_of(name), rest, own, report)))
        except ConfigError as error:
            report(own, str(error))
        except Invalid:
            continue
    if len(built) < len(value):
        raise Invalid
    return tuple(built)


def join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def show_given(value: object) -> str:
    text = "nothing" if value is None else masked(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _modules(package: str) -> list[str]:
    return discover.names(importlib.import_module(package))


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _field(cls: type, field: dataclasses.Field[Any], value: object, key: str, report: Report, current: Any) -> Any:
    package = field.metadata.get("component")
    if package:
        return build_component(package, value, key, report, current if isinstance(current, Component) else None)
    if "components" in field.metadata:
        return _components(field.metadata["components"], value, key, report)
    kind, others = _config_type(_types(cls)[field.name]), _plain_types(_types(cls)[field.name])
    nothing, scalars = type(None) in others, any(other is not type(None) for other in others)
    plainly = nothing if value is None else scalars and not isinstance(value, Mapping)
    if kind is not None and not plainly:
        return build(kind, value, key, report, current if isinstance(current, kind) else None)
    item = _item_type(_types(cls)[field.name])
    if item is not None and isinstance(value, list | tuple):
        built = [_try_build(item, entry, f"{key}[{index}]", report) for index, entry in enumerate(value)]
        if None in built:
            raise Invalid
        return tuple(built)
    try:
        checked = _adapter(cls, field.name).validate_python(_tuples(value), strict=True)
    except ValidationError as error:
        section = "" if kind is None else f" or a section with {', '.join(_names(kind))}"
        report(key, f"given {show_given(value)}; {_allowed(error)}{section}")
        raise Invalid from error
    return checked


def strict(make: Callable[[Report], T]) -> T:
    """Build where the first problem is an error."""
    problems: list[str] = []
    try:
        return make(lambda key, message: problems.append(f"{key}: {message}" if key else message))
    except Invalid:
        raise ConfigError("; ".join(problems)) from None


def located(value: Any, folder: Path) -> Any:
    """A copy of built configuration whose relative locations start from ``folder``; URIs stay as they are."""
    return with_locations(value, lambda key, item: item if is_uri(item) else str(absolute(item, key, folder)))


def _try_build(cls: type[T], value: object, key: str, report: Report) -> T | None:
    try:
        return build(cls, value, key, report)
    except Invalid:
        return None


def _item_type(kind: Any) -> type | None:
    """The configuration class that a field holds a list of."""
    if typing.get_origin(kind) is not tuple:
        return None
    (item, *_) = typing.get_args(kind)
    return typing.cast(type, item) if dataclasses.is_dataclass(item) else None


def _config_type(kind: Any) -> type | None:
    """The configuration class of a field, also where the field may be null."""
    if typing.get_origin(kind) is tuple:
        return None
    options = [option for option in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(option)]
    return typing.cast(type, options[0]) if options else None


def _plain_types(kind: Any) -> tuple[Any, ...]:
    """The plain types that a union field allows beside configuration classes; empty for other fields."""
    if typing.get_origin(kind) is tuple:
        return ()
    return tuple(option for option in typing.get_args(kind) if not dataclasses.is_dataclass(option))


def _allowed(error: ValidationError) -> str:
    """List what pydantic would have accepted, each alternative once."""
    problems = error.errors()
    lacking = [at for problem in problems if problem["type"] == "missing" and isinstance(at := problem["loc"][-1], int)]

    def words(problem: Any) -> str:
        if problem["type"] == "too_long" or (lacking and problem["type"] == "missing"):
            return f"a list of {problem.get('ctx', {}).get('max_length') or max(lacking) + 1}"
        return str(problem["msg"]).removeprefix("Input should be ")

    text = " or ".join(dict.fromkeys(map(words, problems)))
    return f"need {text}".replace("valid tuple", "list").replace("valid dictionary", "section")


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _adapter(cls: type, name: str) -> TypeAdapter[Any]:
    kind = _types(cls)[name]
    checked: Any = functools.reduce(operator.or_, _plain_types(kind)) if _config_type(kind) is not None else kind
    return TypeAdapter(checked, config=ConfigDict(allow_inf_nan=False))


def _tuples(value: object) -> object:
    """YAML has lists; frozen configuration has tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
