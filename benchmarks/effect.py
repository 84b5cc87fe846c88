"""What AReAM does to its host: every form of its loss against the plain host of the same seed.

    python -m benchmarks.effect runs/voc_animals/summary.json [NAME]

Prints markdown, keeps the figures of every seed in results/NAME.json (or effect) and draws results/NAME.png:
the CAM refined by one layer at a time, as Figure 10 of the paper shows it, beside what is printed of that figure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.paired import Rows, change, differences, paired, spread
from orchestrator.reporting.drawing import line_titles

RESULTS = Path(__file__).parent / "results"
DEEPEST = 3
"""Layers at the end, which lose most."""
SHOWN = {
    "val/map": "val mAP",
    "cam/miou": "CAM",
    "layer/all/miou": "refined by all layers",
    "layer/deepest/miou": f"by each of the last {DEEPEST}, mean",
    "held_out/none/miou": "CAM, val images",
    "held_out/all/miou": "refined by all layers, val images",
    "seg/miou": "segmenter on the labels",
    "train/method_gradient": "pull",
}


PAPER = {"plain": {"best": 0.61, "all": 0.605}, "AReAM": {"best": 0.634, "all": 0.664}}
"""Figure 10, MCTformer on DeiT-S, 60 epochs, 10,582 images: the best layer, and the mean of all."""
LINES = "dashed: by all layers; dotted: unrefined"
PAPER_SHAPE = {"plain": ((0, 0.58), (6, 0.58), (11, 0.28)), "AReAM": ((0, 0.58), (11, 0.58))}
"""(layer, mIoU): how its curves run, as the text around it tells; not read off point by point."""


def main(path: str, name: str = "effect") -> None:
    summary = json.loads(Path(path).read_text(encoding="utf-8"))
    titles = line_titles([entry["config"] for entry in summary["ranking"]])
    methods = [title.split("method=")[-1] for title in titles]
    titles = methods if len(set(methods)) == len(methods) else titles
    found = {title: _with_deepest(entry) for title, entry in zip(titles, summary["ranking"], strict=True)}
    for job in summary["segmentation"]:
        if job["rank"] is not None:
            found[titles[job["rank"]]][str(job["seed"])]["seg/miou"] = job["metrics"]["seg/miou"]
    hosts: dict[str, dict[str, Rows]] = {}
    plain: dict[str, str] = {}
    for title, entry in zip(titles, summary["ranking"], strict=True):
        config = entry["config"]
        swept = config.get("backbone.name", config.get("backbone", {}).get("name"))
        host = str(swept or summary["settings"]["backbone.name"])
        hosts.setdefault(host, {})[title] = found[title]
        if entry["without_loss"]:
            plain[host] = title
    if missing := [host for host in hosts if host not in plain]:
        sys.exit(f"{path}: the host {', '.join(missing)} was not trained plainly; nothing to compare with")
    for host, entries in hosts.items():
        _print_methods(entries, plain[host])
        _print_layers(entries, plain[host])
    content = {
        "command": f"python -m benchmarks.effect runs/{summary['name']}/summary.json {name}",
        **{key: summary[key] for key in ("code", "versions", "protocol", "seeds", "origins")},
        "per_seed": found,
    }
    RESULTS.joinpath(f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw(hosts, plain, RESULTS / f"{name}.png")


def _layers(row: Mapping[str, float]) -> list[str]:
    return sorted(name for name in row if name.startswith("layer/") and name.split("/")[1].isdigit())


def _with_deepest(entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        seed: {**row, "layer/deepest/miou": fmean(row[name] for name in _layers(row)[-DEEPEST:])}
        for seed, row in entry["per_seed"].items()
    }


def _print_methods(entries: Mapping[str, Rows], baseline: str) -> None:
    """Means over seeds, then changes from the baseline of the same seed: those whose 95 % interval excludes 0 with a
    ``*``."""
    shown = {
        metric: words
        for metric, words in SHOWN.items()
        if any(metric in row for rows in entries.values() for row in rows.values())
    }
    for what in ("mean over seeds", "change, paired by seed"):
        print(f"| {what} |", " | ".join(shown.values()), "|")
        print("|---" * (1 + len(shown)) + "|")
        for title, rows in entries.items():
            if what == "mean over seeds":
                cells = [spread(_with(rows, metric), metric) if _with(rows, metric) else "" for metric in shown]
            elif title != baseline:
                pairs = [differences(_with(rows, one), _with(entries[baseline], one), one) for one in shown]
                cells = [paired(values) if values else "" for values in pairs]
            else:
                continue
            print(f"| {title} |", " | ".join(cells), "|")
        print()


def _with(rows: Rows, metric: str) -> Rows:
    """The seeds that have it: segmenters are trained on the labels of some."""
    return {seed: row for seed, row in rows.items() if metric in row}


def _print_layers(entries: Mapping[str, Rows], baseline: str) -> None:
    others = [title for title in entries if title != baseline]
    first = next(iter(entries[baseline].values()))
    print(f"| refined by | {baseline} |", " | ".join(f"{title}, change" for title in others), "|")
    print("|---" * (2 + len(others)) + "|")
    for name in [*_layers(first), "layer/all/miou", "layer/none/miou"]:
        cells = [spread(entries[baseline], name), *(change(entries[t], entries[baseline], name) for t in others)]
        print(f"| {name.split('/')[1]} |", " | ".join(cells), "|")
    print()


def _draw(hosts: Mapping[str, Mapping[str, Rows]], plain: Mapping[str, str], picture: Path) -> None:
    """A panel a host, and the paper's; of each host the plain training, the best by all layers and the others thin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * (len(hosts) + 1), 3.8), layout="constrained")
    panels = list(figure.subplots(1, len(hosts) + 1, squeeze=False, sharey=True)[0])
    for axes, (host, entries) in zip(panels, hosts.items(), strict=False):
        best = max((title for title in entries if title != plain[host]), key=lambda t: _mean(entries[t], "all"))
        drawn = False
        for title, rows in entries.items():
            layers = _layers(next(iter(rows.values())))
            columns = [[row[name] for row in rows.values()] for name in layers]
            means, name = [fmean(column) for column in columns], title.split("method=")[-1]
            if title not in (plain[host], best):
                axes.plot(means, color="0.75", zorder=1, label=None if drawn else "other forms")
                drawn = True
                continue
            colour = "C3" if title == plain[host] else "C0"
            errors = [stdev(column) if len(column) > 1 else 0.0 for column in columns]
            axes.errorbar(range(len(layers)), means, errors, color=colour, capsize=2, label=name, zorder=2)
            axes.axhline(_mean(rows, "all"), color=colour, linestyle="--", linewidth=1)
            axes.axhline(_mean(rows, "none"), color=colour, linestyle=":", linewidth=1)
        axes.set_title(f"{host}, here")
    for (name, points), colour in zip(PAPER_SHAPE.items(), ("C3", "C0"), strict=True):
        panels[-1].plot(*zip(*points, strict=True), color=colour, label=name)
        panels[-1].axhline(PAPER[name]["all"], color=colour, linestyle="--", linewidth=1)
    panels[-1].set_title("MCTformer, the paper's Figure 10 (outline)")
    for axes in panels:
        axes.set_xlabel("layer whose affinity refines the CAM, 0 the first")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=7, title=LINES, title_fontsize=7)
    panels[0].set_ylabel("mIoU of the CAM")
    figure.savefig(picture, dpi=130, metadata={"Software": None})


def _mean(rows: Rows, which: str) -> float:
    return fmean(row[f"layer/{which}/miou"] for row in rows.values())


if __name__ == "__main__":
    main(*sys.argv[1:])
