"""Tables of the published_start sweep: three methods over their seeds, and every layer's gain before and after AReAM.

    python -m benchmarks.published_start runs/published_start/summary.json

Prints markdown and keeps the figures of every seed in results/published_start.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.paired import change, spread

RESULT = Path(__file__).parent / "results" / "published_start.json"
HEADLINE = ("val/map", "val/map_all", "cam/miou", "cam/miou_all", "pseudo/miou", "pseudo/miou_all")


def title(entry: Mapping[str, Any]) -> str:
    method = entry["config"]["method"]
    return f"{method['name']} {method['weights']}" if "weights" in method else str(method["name"])


def main(path: str) -> None:
    summary = json.loads(Path(path).read_text(encoding="utf-8"))
    entries = {title(entry): entry["per_seed"] for entry in summary["ranking"]}
    baseline = next(rows for name, rows in entries.items() if name == "mctformer")
    layers = sorted(name for name in next(iter(baseline.values())) if name.startswith("layer/"))
    shown = [name for name in HEADLINE if name in next(iter(baseline.values()))]
    print("| method | seeds |", " | ".join(shown), "|")
    print("|---" * (len(shown) + 2) + "|")
    for name, rows in entries.items():
        print(f"| {name} | {len(rows)} |", " | ".join(spread(rows, metric) for metric in shown), "|")
    print()
    others = [name for name in entries if name != "mctformer"]
    print("| refined by | mctformer |", " | ".join(f"{name} | change, paired" for name in others), "|")
    print("|---" * (2 + 2 * len(others)) + "|")
    for layer in layers:
        cells = [spread(baseline, layer)]
        for name in others:
            cells += [spread(entries[name], layer), change(entries[name], baseline, layer)]
        print(f"| {layer.split('/')[1]} |", " | ".join(cells), "|")
    content = {
        "command": "python -m benchmarks.published_start runs/published_start/summary.json",
        "code": summary["code"],
        "versions": summary["versions"],
        "protocol": summary["protocol"],
        "seeds": summary["seeds"],
        "per_seed": entries,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
