"""What AReAM does to its host: every form of its loss against the plain host of the same seed.

    python -m benchmarks.effect runs/voc_animals/summary.json

Prints markdown and keeps the figures of every seed in results/effect.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.paired import Rows, change, differences, interval, mean_and_spread, spread
from orchestrator.line_titles import line_titles

RESULT = Path(__file__).parent / "results" / "effect.json"
DEEPEST = 3
"""Layers at the end, which lose most."""
SHOWN = {
    "val/map": "val mAP",
    "cam/miou": "CAM",
    "layer/all/miou": "refined by all layers",
    "layer/deepest/miou": f"by each of the last {DEEPEST}, mean",
    "train/method_gradient": "pull",
}


def main(path: str) -> None:
    summary = json.loads(Path(path).read_text())
    titles = line_titles([entry["config"] for entry in summary["ranking"]])
    found = {title: _with_deepest(entry) for title, entry in zip(titles, summary["ranking"], strict=True)}
    hosts: dict[str, dict[str, Rows]] = {}
    plain: dict[str, str] = {}
    for title, entry in zip(titles, summary["ranking"], strict=True):
        host = str(entry["config"].get("backbone", {}).get("name", "of the sweep"))
        hosts.setdefault(host, {})[title] = found[title]
        if entry["without_loss"]:
            plain[host] = title
    if missing := [host for host in hosts if host not in plain]:
        sys.exit(f"{path}: the host {', '.join(missing)} was not trained plainly; nothing to compare with")
    for host, entries in hosts.items():
        _print_methods(entries, plain[host])
        _print_layers(entries, plain[host])
    content = {
        "command": "python -m benchmarks.effect runs/voc_animals/summary.json",
        **{key: summary[key] for key in ("code", "versions", "protocol", "seeds", "origins")},
        "per_seed": found,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


def _layers(row: Mapping[str, float]) -> list[str]:
    return sorted(name for name in row if name.startswith("layer/") and name.split("/")[1].isdigit())


def _with_deepest(entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        seed: {**row, "layer/deepest/miou": fmean(row[name] for name in _layers(row)[-DEEPEST:])}
        for seed, row in entry["per_seed"].items()
    }


def _print_methods(entries: Mapping[str, Rows], baseline: str) -> None:
    """The 95 % interval of the paired difference stands where it excludes 0 as ``*``."""
    print("| |", " | ".join(f"{words} | paired" for words in SHOWN.values()), "|")
    print("|---" * (1 + 2 * len(SHOWN)) + "|")
    for title, rows in entries.items():
        cells = []
        for metric in SHOWN:
            if any(metric not in row for row in rows.values()):
                cells += ["", ""]
                continue
            cells.append(spread(rows, metric))
            other = entries[baseline]
            paired = title != baseline and all(metric in row for row in other.values())
            cells.append(_paired(differences(rows, other, metric)) if paired else "")
        print(f"| {title} |", " | ".join(cells), "|")
    print()


def _paired(values: list[float]) -> str:
    limits = interval(values)
    sure = limits is not None and (limits[0] > 0 or limits[1] < 0)
    return mean_and_spread(values, "+") + (" *" if sure else "")


def _print_layers(entries: Mapping[str, Rows], baseline: str) -> None:
    others = [title for title in entries if title != baseline]
    first = next(iter(entries[baseline].values()))
    print(f"| refined by | {baseline} |", " | ".join(f"{title}, change" for title in others), "|")
    print("|---" * (2 + len(others)) + "|")
    for name in [*_layers(first), "layer/all/miou", "layer/none/miou"]:
        cells = [spread(entries[baseline], name), *(change(entries[t], entries[baseline], name) for t in others)]
        print(f"| {name.split('/')[1]} |", " | ".join(cells), "|")
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
