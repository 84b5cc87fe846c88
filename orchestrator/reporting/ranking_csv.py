"""The ranking as CSV, one row a configuration and seed, for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.text import show

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters that spreadsheets take for the start of a formula."""
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def ranking_csv(content: Mapping[str, Any]) -> str:
    """Columns: rank, seed, front, the axes, every metric of a seed, keys of training and labels. Numbers are exact."""
    axes, entries = list(content["axes"]), content["ranking"]
    front = content.get("pareto", {}).get("front", [])
    metrics = sorted({name for entry in entries for own in entry["per_seed"].values() for name in own})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "seed", "front", *map(_cell, axes), *metrics, "training", "labels"])
    for position, entry in enumerate(entries):
        keys = dict(zip(map(str, entry["seeds"]), entry["trial_keys"], strict=True))
        for seed, own in sorted(entry["per_seed"].items(), key=lambda item: int(item[0])):
            writer.writerow(
                [
                    position + 1,
                    seed,
                    int(position in front),
                    *(_cell(entry["config"].get(key)) for key in axes),
                    *(own.get(name, "") for name in metrics),
                    keys[seed],
                    entry["label_artifacts"][seed],
                ]
            )
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Numbers as they are."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return "" if value is None else value
    return plain_cell(show(value))


def plain_cell(text: str) -> str:
    """Text that no spreadsheet runs."""
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text
