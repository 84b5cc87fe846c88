"""A dataset that a person names at the command line: by its module, or by a sweep file that reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aream.config import Component
from orchestrator.spec.build import build_component, located, strict
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import read_overrides
from workers.plugins import activate_installed


def is_sweep_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def with_root(root: str | None, overrides: Sequence[str]) -> list[str]:
    """Overrides with that of the dataset's folder."""
    return [*([] if root is None else [f"data.root={json.dumps(root, ensure_ascii=False)}"]), *overrides]


def named_data(name: str, root: str | None, overrides: Sequence[str]) -> Component:
    """The dataset of that name, with keys of ``data`` as overrides, or that of a sweep file.

    Raises:
        AreamError: there is none, or it is configured impossibly.
    """
    if is_sweep_file(name):
        return load_spec(Path(name), with_root(root, overrides)).base.data
    activate_installed()
    keys = [given if given.startswith("data.") else f"data.{given}" for given in overrides]
    given = read_overrides(with_root(root, keys)).data.get("data", {})
    component = strict(lambda report: build_component("aream.datasets", {**given, "name": name}, "data", report, None))
    found: Component = located(component, Path.cwd())
    return found
