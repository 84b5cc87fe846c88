"""Which method on which host: a sweep over both, each method against its host alone, paired by seed.

    python -m benchmarks.methods runs/methods_animals/summary.json

Prints markdown, keeps the figures of every seed in results/NAME.json and draws results/NAME.png: the CAM refined by one
layer at a time, a panel a host.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.paired import Rows, differences, mean_and_spread, paired, spread

RESULTS = Path(__file__).parent / "results"
ALONE = ("mean_affinity", "mctformer", "transcam")
"""Methods that train a host with its own losses."""
SHOWN = {
    "cam/miou": "unrefined",
    "pseudo/miou": "refined by all layers",
    "layer/best/miou": "by its best layer",
    "val/map": "val mAP",
}
COST = "cost/seconds"
OTHERS = ("C0", "C1", "C2", "C4", "C5", "C8")
"""Colours of methods; the host alone is C3."""


def main(path: str) -> None:
    summary = json.loads(Path(path).read_text(encoding="utf-8"))
    hosts: dict[str, dict[str, Rows]] = {}
    for entry in summary["ranking"]:
        config = entry["config"]
        if config.get("inference.layers", "all") == "all":
            host = _host(config["backbone"]) if "backbone" in config else str(summary["settings"]["backbone.name"])
            hosts.setdefault(host, {})[_method(config["method"])] = entry["per_seed"]
    if missing := [host for host, methods in hosts.items() if not set(ALONE) & set(methods)]:
        sys.exit(f"{path}: {', '.join(missing)} was not trained alone; nothing to compare with")
    _print(hosts)
    name = summary["name"]
    content = {
        "command": f"python -m benchmarks.methods runs/{name}/summary.json",
        **{key: summary[key] for key in ("code", "versions", "protocol", "seeds", "origins")},
        "per_seed": hosts,
    }
    RESULTS.joinpath(f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw(hosts, RESULTS / f"{name}.png")


def _host(backbone: Mapping[str, Any]) -> str:
    pooling = backbone.get("pooling")
    return str(backbone["name"]) + (f", {pooling}" if pooling else "")


def _method(method: Mapping[str, Any]) -> str:
    if method["name"] == "plus":
        return " + ".join(_method(part) for part in method["parts"])
    by = method.get("localisation")
    return str(method["name"]) + (f", localised by {by}" if by else "")


def _alone(methods: Mapping[str, Rows]) -> str:
    return next(name for name in ALONE if name in methods)


def _print(hosts: Mapping[str, Mapping[str, Rows]]) -> None:
    print("| host | method |", " | ".join(SHOWN.values()), "| cost, s |")
    print("|---" * (len(SHOWN) + 3) + "|")
    for host, methods in hosts.items():
        for method in sorted(methods, key=lambda name: (name != _alone(methods), name)):
            rows = methods[method]
            cost = fmean(row[COST] for row in rows.values())
            print(f"| {host} | {method} |", " | ".join(spread(rows, metric) for metric in SHOWN), f"| {cost:.0f} |")
    print()
    print("| host | change, paired by seed |", " | ".join(SHOWN.values()), "| cost, times |")
    print("|---" * (len(SHOWN) + 3) + "|")
    for host, methods in hosts.items():
        base = methods[_alone(methods)]
        for method in sorted(set(methods) - {_alone(methods)}):
            rows = methods[method]
            cells = [paired(differences(rows, base, metric)) for metric in SHOWN]
            times = [rows[seed][COST] / base[seed][COST] for seed in rows if seed in base]
            print(f"| {host} | {method} |", " | ".join(cells), f"| {mean_and_spread(times)} |")


def _draw(hosts: Mapping[str, Mapping[str, Rows]], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 if len(hosts) == 1 else 3.6 * len(hosts), 4.4), layout="constrained")
    panels = list(figure.subplots(1, len(hosts), squeeze=False, sharey=True)[0])
    for axes, (host, methods) in zip(panels, hosts.items(), strict=True):
        for number, method in enumerate(sorted(methods, key=lambda name: (name != _alone(methods), name))):
            rows = methods[method]
            first = next(iter(rows.values()))
            layers = sorted(name for name in first if name.startswith("layer/") and name.split("/")[1].isdigit())
            curve = [fmean(row[name] for row in rows.values()) for name in layers]
            colour = "C3" if number == 0 else OTHERS[(number - 1) % len(OTHERS)]
            axes.plot(range(len(curve)), curve, color=colour, label=method)
            axes.axhline(fmean(row["cam/miou"] for row in rows.values()), color=colour, linestyle=":", linewidth=1)
        axes.set_title(host)
        axes.set_xlabel("layer whose affinity refines the CAM")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, title="dotted: unrefined")
    panels[0].set_ylabel("CAM mIoU")
    figure.savefig(picture, dpi=130, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
