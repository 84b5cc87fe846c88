"""The ranking as text cells: what the terminal, the report and the tracker show of it, each with columns of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.spec.metrics import columns, number
from orchestrator.text import shown_beside

FRONT = "●"
TIED = "≈ #1"


def main_columns(content: Mapping[str, Any]) -> list[str]:
    """Metrics for a narrow table: the main ones that occur, and the ranking metric."""
    wanted = dict.fromkeys([*columns("always"), content["rank"]["metric"]])
    return [name for name in wanted if any(name in entry["metrics"] for entry in content["ranking"])]


def ranking_rows(content: Mapping[str, Any], metrics: Sequence[str]) -> list[list[str]]:
    """A row a configuration, best first: its rank, the value on every axis, and every metric with its spread."""
    entries = content["ranking"]
    texts = shown_beside([entry["config"] for entry in entries])
    return [
        [
            str(position),
            *(text.get(key, "") for key in content["axes"]),
            *(number(name, entry["metrics"].get(name), entry["spread"].get(name)) for name in metrics),
        ]
        for position, (entry, text) in enumerate(zip(entries, texts, strict=True), start=1)
    ]


def front_marks(content: Mapping[str, Any]) -> list[str] | None:
    """A cell a configuration: marked where it lies on the Pareto front; None where there is no front to choose from."""
    front = content.get("pareto", {}).get("front", [])
    if len(front) < 2:
        return None
    return [FRONT if position in front else "" for position in range(len(content["ranking"]))]


def tie_marks(content: Mapping[str, Any]) -> list[str] | None:
    """A cell a configuration: marked where seed noise does not tell it from the best; None where it is told of none."""
    found = content.get("answer", {}).get("ties", {})
    if found.get("least") is None or len(found["positions"]) < 2:
        return None
    return [TIED if position in found["positions"][1:] else "" for position in range(len(content["ranking"]))]


def winners(content: Mapping[str, Any]) -> frozenset[int]:
    """Positions of the best configuration and those that tie with it; none where seed noise is not known."""
    found = content.get("answer", {}).get("ties", {})
    return frozenset(found["positions"]) if found.get("least") is not None else frozenset()
