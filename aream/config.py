"""Frozen configuration: what a stage may read, and the canonical form its identity is hashed from.

A field that cannot change a result because something else identifies it (the folder the images lie in, the
path of a weight file: their *content* is fingerprinted) is declared with :func:`location` and left out of
the canonical form; so is one declared with :func:`setting` or :func:`fingerprinted`, and one declared with
:func:`added`, at its default.
Anything the encoder does not know is refused: a permissive ``str(value)`` would let an object's address fork the
identity from one run to the next.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Declare a configuration class: a frozen, keyword-only, slotted dataclass."""
    return dataclasses.dataclass(frozen=True, kw_only=True, slots=True)(cls)


PRETRAINED = "pretrained"
"""Value of ``weights`` that asks for those that timm has published for the named model."""
EMBEDDED = "embedded"
"""Value of ``weights`` that asks for the file that comes with this package."""


def location(default: Any = dataclasses.MISSING) -> Any:
    """A field that says where bytes lie, never what they are: no part of an identity."""
    return dataclasses.field(default=default, metadata={"location": True})


def setting(default: Any) -> Any:
    """A field that says how something is done, never what comes of it: no part of an identity, nor of equality."""
    return dataclasses.field(default=default, repr=False, compare=False, metadata={"setting": True})


def fingerprinted(default: Any = dataclasses.MISSING) -> Any:
    """A field that says how content is found and read, where what is read of it is fingerprinted: no part of an
    identity. Labels from a table or from a folder a class are the same labels."""
    return dataclasses.field(default=default, metadata={"fingerprinted": True})


def added(default: Any) -> Any:
    """A field that came later: left out of an identity at its default, so that older artifacts keep theirs."""
    return dataclasses.field(default=default, metadata={"added": True})


@config
class Component:
    """A module chosen by name, with its own configuration: a backbone, method, refiner, dataset or segmenter."""

    name: str
    config: Any


def component(package: str, default: Component, added: bool = False) -> Any:
    """A field that names a module of ``package``; in YAML ``par`` or ``{name: par, iterations: 5}``.

    Args:
        added: as of :func:`added`.
    """
    return dataclasses.field(default=default, metadata={"component": package, "added": added})


def components(config_of: Callable[[str], type], default: tuple[Component, ...] = ()) -> Any:
    """A field of several modules, whose configuration class ``config_of`` a name is; it raises ConfigError for names
    that are not allowed. In YAML a list of what :func:`component` takes."""
    return dataclasses.field(default=default, metadata={"components": config_of})


def is_config(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def canonical(value: Any) -> Any:
    """Encode ``value`` as JSON data, so that equal meaning gives equal text.

    Raises:
        TypeError: for a type whose meaning is not plain data, or a NaN or infinite number.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if is_config(value):
        return {
            field.name: canonical(getattr(value, field.name))
            for field in _identifying(value.__class__)
            if not _as_before(value, field)
        }
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"cannot identify the number {value}: it must be finite")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    raise TypeError(f"cannot identify a value of type {type(value).__name__}: {value!r}")


@functools.cache
def _identifying(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a configuration class that identify by themselves; a large plan asks a million times."""
    others = {"location", "setting", "fingerprinted"}
    return tuple(field for field in dataclasses.fields(cls) if not field.metadata.keys() & others)


def _as_before(value: Any, field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("added")) and getattr(value, field.name) == field.default


def plain(value: Any) -> Any:
    """The whole configuration as plain data, locations included, for showing to people."""
    if is_config(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value
