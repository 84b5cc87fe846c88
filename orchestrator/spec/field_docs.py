"""What configuration classes say of their fields: the text below each, and the ranges that they refuse to leave."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any

from aream.errors import ConfigError

SMALL = 1e-6
"""Distance from 0 and 1 at which a range that leaves them out is tried."""


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field, in one line; of inherited ones too."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if dataclasses.is_dataclass(owner):
            found |= _written(owner)
    return found


def _written(cls: type) -> dict[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field, ast.AnnAssign)
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def numeric_range(cls: type, field: str, *, whole: bool) -> dict[str, float]:
    """Bounds at 0 and 1 that the class itself keeps for a number, as JSON schema calls them; those that go by other
    fields are left out.

    It is asked: a bound is where a number just inside is taken and one just outside is refused for this field alone.
    """
    base = _base(cls)
    if base is None:
        return {}

    def taken(value: float) -> bool | None:
        """None: refused for another field, or for several."""
        try:
            cls(**{**base, field: int(value) if whole else float(value)})
        except ConfigError as error:
            return False if str(error).partition(":")[0] == field else None
        except Exception:
            return None
        return True

    found: dict[str, float] = {}
    if taken(-1) is False:
        if taken(0) is True:
            found["minimum"] = 0
        elif whole and taken(1) is True:
            found["minimum"] = 1
        elif not whole and taken(SMALL) is True:
            found["exclusiveMinimum"] = 0
    if whole or taken(1 + SMALL) is not False:
        return found
    if taken(1) is True:
        found["maximum"] = 1
    elif taken(1 - SMALL) is True:
        found["exclusiveMaximum"] = 1
    return found


@functools.cache
def _base(cls: type) -> dict[str, Any] | None:
    """Values for the fields that need one; None: they are not found so easily."""
    needed = [field.name for field in dataclasses.fields(cls) if _without_default(field)]
    for value in ("x", 1, 0.5):
        made = dict.fromkeys(needed, value)
        try:
            cls(**made)
        except Exception:
            continue
        return made
    return None


def _without_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
