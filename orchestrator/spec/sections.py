"""Trials built from sections that earlier trials have: the points of a grid differ in one or two of six."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.spec.build import Report, build, located
from workers.trial import TrialConfig

SECTIONS = tuple(field.name for field in dataclasses.fields(TrialConfig) if field.name != "seed")

MOST = 10_000
"""Sections kept: a search over ranges never builds one twice."""


class Sections:
    """Sections by their text, each built and checked once; configuration is frozen, so that trials may share it."""

    def __init__(self, folder: Path) -> None:
        """``folder``: where relative locations start."""
        self.folder = folder
        self._built: dict[tuple[str, str], Any] = {}

    def trial(self, mapping: Mapping[str, Any], report: Report) -> TrialConfig:
        """A trial of plain data, ``seed`` included.

        Raises:
            Invalid: something was reported.
        """
        keys = {name: (name, repr(mapping.get(name, ...))) for name in SECTIONS}
        if mapping.keys() <= {*SECTIONS, "seed"} and all(key in self._built for key in keys.values()):
            return TrialConfig(**{name: self._built[key] for name, key in keys.items()}, seed=mapping["seed"])
        trial: TrialConfig = located(build(TrialConfig, mapping, "", report), self.folder)
        if len(self._built) > MOST:
            self._built.clear()
        # Also those of a new point that are not new: thousands of trials are kept.
        parts = {name: self._built.setdefault(key, getattr(trial, name)) for name, key in keys.items()}
        return dataclasses.replace(trial, **parts)
