"""The report's pictures: threshold curves, the alpha heat-map, layers, training curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from orchestrator.plan import show
from workers.artifacts.store import ArtifactStore

CURVES = 6
ALPHAS = ("method.alpha_low", "method.alpha_high")


def draw_figures(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> list[tuple[Path, str]]:
    """Write what the results allow as PNGs; returns (file, caption)."""
    folder.mkdir(parents=True, exist_ok=True)
    metric = content["rank"]["metric"]
    drawn = [
        (
            _threshold_curves(content, store, folder),
            "mIoU at every background threshold, best seed of the first configurations; dashed: unrefined",
        ),
        (_alpha_heatmap(content, folder), f"mean {metric} over seeds for the two alphas, best variant of each"),
        (
            _layers(content, folder),
            "CAM refined by one layer's affinity alone, best threshold; dashed: by all layers; dotted: by none",
        ),
        (_training(content, store, folder), "val mAP over the epochs, first seed of the first configurations"),
    ]
    return [(path, caption) for path, caption in drawn if path is not None]


def _title(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.split('.')[-1]}={show(value)}" for key, value in entry["config"].items()) or "base"


def _threshold_curves(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> Path | None:
    entries = [entry for entry in content["ranking"][:CURVES] if store.has(entry["label_artifact"])]
    if not entries:
        return None
    figure, axes = plt.subplots(figsize=(7, 4))
    for index, entry in enumerate(entries):
        curves = json.loads((store.get(entry["label_artifact"]) / "curve.json").read_text())
        for name, style in (("refined", "-"), ("unrefined", "--")):
            curve = curves[name]
            label = _title(entry) if name == "refined" else None
            marker = "o" if len(curve["curve"]) == 1 else None
            axes.plot(curve["thresholds"], curve["curve"], style, color=f"C{index}", label=label, marker=marker)
    axes.set_xlabel("background threshold")
    axes.set_ylabel("mIoU")
    axes.legend(fontsize=7)
    return _save(figure, folder / "threshold_curves.png")


def _alpha_heatmap(content: Mapping[str, Any], folder: Path) -> Path | None:
    """Needs at least two values of an alpha axis."""
    metric = content["rank"]["metric"]
    best: dict[tuple[float, float], float] = {}
    for entry in content["ranking"]:  # best first: the first of a cell is its best variant
        if all(key in entry["config"] for key in ALPHAS) and metric in entry["metrics"]:
            best.setdefault(tuple(entry["config"][key] for key in ALPHAS), entry["metrics"][metric])
    lows, highs = sorted({low for low, _ in best}), sorted({high for _, high in best})
    if len(lows) * len(highs) < 2:
        return None
    grid = np.array([[best.get((low, high), np.nan) for high in highs] for low in lows])
    figure, axes = plt.subplots(figsize=(1.6 + 0.9 * len(highs), 1.4 + 0.7 * len(lows)))
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(highs)), [f"{high:g}" for high in highs])
    axes.set_yticks(range(len(lows)), [f"{low:g}" for low in lows])
    axes.set_xlabel("alpha_high")
    axes.set_ylabel("alpha_low")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color="white", fontsize=8)
    figure.colorbar(image, label=metric)
    return _save(figure, folder / "alphas.png")


def _layers(content: Mapping[str, Any], folder: Path) -> Path | None:
    """One line a training, from the layer analysis where the sweep asked for it; mean over seeds with its spread."""
    lines: dict[str, list[dict[str, float]]] = {}
    for entry in content["ranking"]:
        if "layer/none/miou" in entry["metrics"]:
            own = {
                key: value for key, value in entry["config"].items() if not key.startswith(("inference.", "labels."))
            }
            lines.setdefault(_title({"config": own}), [entry["metrics"], entry["spread"]])
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(7, 4))
    for index, (title, (means, spread)) in enumerate(list(lines.items())[:CURVES]):
        names = sorted(name for name in means if name.startswith("layer/") and name.split("/")[1].isdigit())
        values = np.array([means[name] for name in names])
        error = np.array([spread[name] for name in names])
        axes.plot(range(len(names)), values, "o-", color=f"C{index}", label=title, markersize=3)
        axes.fill_between(range(len(names)), values - error, values + error, color=f"C{index}", alpha=0.15)
        axes.axhline(means["layer/all/miou"], color=f"C{index}", linestyle="--", linewidth=0.8)
        axes.axhline(means["layer/none/miou"], color=f"C{index}", linestyle=":", linewidth=0.8)
    axes.set_xlabel("layer")
    axes.set_ylabel("mIoU")
    axes.legend(fontsize=7)
    return _save(figure, folder / "layers.png")


def _training(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> Path | None:
    figure, axes = plt.subplots(figsize=(7, 3.5))
    shown: set[str] = set()
    for entry in content["ranking"]:
        key = entry["trial_keys"][0]
        if key in shown or not store.has(key):
            continue
        shown.add(key)
        history = store.record(key).history
        axes.plot([row["epoch"] for row in history], [row["val/map"] for row in history], label=_title(entry))
        if len(shown) == CURVES:
            break
    axes.set_xlabel("epoch")
    axes.set_ylabel("val mAP")
    if not shown:
        plt.close(figure)
        return None
    axes.legend(fontsize=7)
    return _save(figure, folder / "training.png")


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return path
