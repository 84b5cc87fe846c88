"""Nested sections of a sweep file and the dotted keys that reach into them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.spec.constraints import MissingKey


def overlaid(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested sections with dotted keys set; whole sections before what lies in them.

    Where a component's name is set to another, the settings of the one before go with it.
    """
    result = json.loads(json.dumps(mapping))
    for key in sorted(values, key=lambda key: (key.count("."), not key.endswith(".name"))):
        target, parts = result, key.split(".")
        for part in parts[:-1]:
            inner = target.get(part)
            target[part] = {"name": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else {}
            target = target[part]
        if key.endswith(".name") and target.get("name", values[key]) != values[key]:
            target.clear()
        target[parts[-1]] = json.loads(json.dumps(values[key]))
    return dict(result)


def entry(name: str, node: Any) -> Any:
    """Return the value at a dotted key of nested sections; a component may be given by its name alone.

    Raises:
        MissingKey: there is no such key.
    """
    for part in name.split("."):
        if isinstance(node, dict) and set(node) == {"name", "config"} and part != "name":
            node = node["config"]
        elif isinstance(node, str):
            node = {"name": node}
        if not isinstance(node, dict) or part not in node:
            raise MissingKey(f"{name}: no such key")
        node = node[part]
    return node
