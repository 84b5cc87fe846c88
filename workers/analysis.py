"""Analyses: stages beside the labels that look at what a trial made.

A stage file that also holds ``Options`` (what a sweep file may set) and ``analysis(subject, options) -> Stage`` is one.
It shows figures by writing them as data (``workers/files/figures.py``); nothing else has to know it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from aream import discover
from aream.config import Component
from aream.errors import ConfigError
from workers import stages
from workers.stage import Stage
from workers.trial import TrialConfig


@dataclass(frozen=True)
class Subject:
    """The parts of a trial that an analysis may use."""

    trial: TrialConfig
    depth: int
    patch_size: int
    host: Stage
    """The training."""
    cams: Stage
    fingerprints: Mapping[str, str]
    """Fingerprints of ``data`` and ``backbone``."""


def names() -> list[str]:
    """The stages that are analyses."""
    return [name for name in discover.names(stages) if _is_analysis(discover.load(stages, name))]


def options_class(name: str) -> type[Any]:
    """The configuration that a sweep file may give an analysis.

    Raises:
        ConfigError: there is no such analysis; the message lists those there are.
    """
    return _module(name).Options


def analysis_stage(component: Component, subject: Subject) -> Stage:
    """The stage that a chosen analysis of one variant is.

    Raises:
        ConfigError: its options do not fit the trial.
    """
    stage: Stage = _module(component.name).analysis(subject, component.config)
    return dataclasses.replace(stage, hardware=subject.host.hardware)


def _module(name: str) -> ModuleType:
    if name in discover.names(stages):
        module = discover.load(stages, name)
        if _is_analysis(module):
            return module
    raise ConfigError(f"there is no analysis {name!r}; there are: {', '.join(names())}")


def _is_analysis(module: ModuleType) -> bool:
    return hasattr(module, "analysis") and hasattr(module, "Options")
