"""Nested sections of a sweep file and the dotted keys that reach into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.spec.constraints import MissingKey


def overlaid(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested sections with dotted keys set; whole sections before what lies in them.

    Where a component's name is set to another, the settings of the one before go with it. Of a list of components a
    key names one by its name: ``method.parts.aream.alpha_low``.

    Raises:
        MissingKey: a list has no component of that name.
    """
    result = json.loads(json.dumps(mapping))
    for key in sorted(values, key=lambda key: (key.count("."), not key.endswith(".name"))):
        target, parts = result, key.split(".")
        for part in parts[:-1]:
            place = _place(target, part, key)
            inner = target.get(place) if isinstance(target, dict) else target[place]
            target[place] = (
                {"name": inner} if isinstance(inner, str) else inner if isinstance(inner, dict | list) else {}
            )
            target = target[place]
        if isinstance(target, list):
            target[_place(target, parts[-1], key)] = json.loads(json.dumps(values[key]))
            continue
        if key.endswith(".name") and target.get("name", values[key]) != values[key]:
            target.clear()
        target[parts[-1]] = json.loads(json.dumps(values[key]))
    return dict(result)


def entry(name: str, node: Any) -> Any:
    """Return the value at a dotted key of nested sections; a component may be given by its name alone.

    Raises:
        MissingKey: there is no such key.
    """
    if name == "seed":  # of a trial; nothing in a sweep file goes by it, and what did would go by the first alone
        raise MissingKey(f"{name}: no such key")
    for part in name.split("."):
        if isinstance(node, dict) and set(node) == {"name", "config"} and part != "name":
            node = node["config"]
        elif isinstance(node, str):
            node = {"name": node}
        elif isinstance(node, list):
            node = {_name(item): item for item in node}
        if not isinstance(node, dict) or part not in node:
            raise MissingKey(f"{name}: no such key")
        node = node[part]
    return node


def _name(item: Any) -> Any:
    """The name of a component in a list, which may be given by it alone."""
    return item.get("name") if isinstance(item, dict) else item


def _place(target: Any, part: str, key: str) -> Any:
    if not isinstance(target, list):
        return part
    named = [index for index, item in enumerate(target) if _name(item) == part]
    if not named:
        there = ", ".join(str(_name(item)) for item in target)
        raise MissingKey(f"{key}: no such key: there is no {part} among {there}")
    return named[0]
