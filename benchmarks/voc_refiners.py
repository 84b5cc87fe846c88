"""Tables of the voc_refiners sweep: refiners with and without AReAM, what label-free thresholds lose, every layer.

    python -m benchmarks.voc_refiners runs/voc_refiners/summary.json

Prints markdown, keeps the figures of every seed in results/voc_refiners.json and draws results/voc_refiners.png: the
pseudo-labels by one layer's affinity, as Figure 10 of the paper shows them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.paired import change, spread

RESULT = Path(__file__).parent / "results" / "voc_refiners.json"
REFINERS = ("none", "par", "crf", "psa")
METHODS = ("mctformer", "aream")
RULES = ("otsu", "edges")
LAYER = re.compile(r"layer/\d+/miou")
PAPER = {"MCTformer, best layer": 0.61, "AReAM, best layer": 0.634}
"""Fig. 10 on DeiT-S, 60 epochs, 10,582 images."""
Rows = Mapping[str, Mapping[str, float]]
"""Seed -> metrics."""


def main(path: str) -> None:
    summary = json.loads(Path(path).read_text(encoding="utf-8"))
    found = {_cell(entry["config"]): entry["per_seed"] for entry in summary["ranking"]}
    refiners = [name for name in REFINERS if all((method, name) in found for method in METHODS)]
    print("| refiner | mctformer | aream | change, paired | mctformer, all 21 | aream, all 21 |")
    print("|---|---|---|---|---|---|")
    for refiner in refiners:
        plain, ours = (found[method, refiner] for method in METHODS)
        cells = [spread(plain, "pseudo/miou"), spread(ours, "pseudo/miou"), change(ours, plain, "pseudo/miou")]
        cells += [spread(rows, "pseudo/miou_all") for rows in (plain, ours)]
        print(f"| {refiner} |", " | ".join(cells), "|")
    print()
    print("| refiner | host | searched |", " | ".join(f"{rule} | loses" for rule in RULES), "|")
    print("|---" * (3 + 2 * len(RULES)) + "|")
    for refiner in refiners:
        for method in METHODS:
            rows = found[method, refiner]
            cells = [spread(rows, "pseudo/miou_search")]
            for rule in RULES:
                cells += [spread(rows, f"pseudo/miou_{rule}"), _loss(rows, rule)]
            print(f"| {refiner} | {method} |", " | ".join(cells), "|")
    print()
    plain, ours = (found[method, refiners[0]] for method in METHODS)
    print("| refined by | mctformer | aream | change, paired |")
    print("|---|---|---|---|")
    for name in sorted(name for name in next(iter(plain.values())) if name.startswith("layer/")):
        print(f"| {name.split('/')[1]} | {spread(plain, name)} | {spread(ours, name)} | {change(ours, plain, name)} |")
    print()
    for job in summary["segmentation"]:
        print(json.dumps(job))
    content = {
        "command": "python -m benchmarks.voc_refiners runs/voc_refiners/summary.json",
        "code": summary["code"],
        "versions": summary["versions"],
        "protocol": summary["protocol"],
        "seeds": summary["seeds"],
        "per_seed": {" ".join(cell): rows for cell, rows in found.items()},
        "segmentation": summary["segmentation"],
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw({method: found[method, refiners[0]] for method in METHODS})


def _cell(config: Mapping[str, Any]) -> tuple[str, str]:
    refiner = config["labels.refiner"]
    return config["method"]["name"], refiner if isinstance(refiner, str) else refiner["name"]


def _loss(rows: Rows, rule: str) -> str:
    losses = [row["pseudo/miou_search"] - row[f"pseudo/miou_{rule}"] for row in rows.values()]
    return f"{fmean(losses):.3f}" + (f" ± {stdev(losses):.3f}" if len(losses) > 1 else "")


def _draw(found: Mapping[str, Rows]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for colour, (method, rows) in zip(("C0", "C1"), found.items(), strict=True):
        layers = sorted(name for name in next(iter(rows.values())) if LAYER.fullmatch(name))
        values = [[row[name] for row in rows.values()] for name in layers]
        places = range(len(layers))
        errors = [stdev(column) if len(column) > 1 else 0.0 for column in values]
        axes.errorbar(
            places, [fmean(column) for column in values], errors, marker="o", capsize=2, label=method, color=colour
        )
        for name, style in (("all", "--"), ("none", ":")):
            level = fmean(row[f"layer/{name}/miou"] for row in rows.values())
            words = {"all": "mean of all layers", "none": "no attention"}[name]
            axes.axhline(level, linestyle=style, color=colour, linewidth=1, label=f"{method}, {words}")
    for name, level in PAPER.items():
        axes.axhline(level, linestyle="-.", color="0.6", linewidth=1, label=f"paper, {name}")
    axes.set_xlabel("layer whose affinity refines the CAM, 0 the first")
    axes.set_ylabel("mIoU on train")
    axes.set_xticks(list(places))
    axes.legend(fontsize=6, ncols=2)
    figure.savefig(RESULT.with_suffix(".png"), dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
