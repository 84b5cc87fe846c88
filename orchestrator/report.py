"""report.html (self-contained) and report.md of a sweep, from its summary and the store.

python -m orchestrator.report NAME|SWEEP.yaml
"""

from __future__ import annotations

import base64
import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.artifacts.store import ArtifactStore

OVERLAYS = 6
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1d2129; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
th, td { border: 1px solid #d5d9e0; padding: 4px 10px; text-align: right; white-space: nowrap; }
th { background: #f2f4f7; } td:first-child, td.text { text-align: left; } tr.best td { background: #eef8ee; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #58606e; font-size: 13px; }
code { background: #f2f4f7; padding: 1px 4px; } .small { color: #58606e; font-size: 13px; }
"""


def write_report(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> list[Path]:
    """Write both reports and their figures into ``folder``; returns every file written."""
    from orchestrator.figures import draw_figures
    from orchestrator.state import replace_text

    figures = draw_figures(content, store, folder / "figures")
    overlays = _overlays(content, store)
    replace_text(folder / "report.html", _html(content, figures, overlays))
    replace_text(folder / "report.md", _markdown(content, figures))
    return [folder / "report.html", folder / "report.md", *(path for path, _ in figures)]


def _columns(content: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    metrics = (
        "val/map",
        "cam/miou",
        "pseudo/miou",
        "pseudo/miou_all",
        "pseudo/threshold",
        "seg/miou",
        "seg/miou_all",
    )
    shown = [name for name in metrics if any(name in entry["metrics"] for entry in content["ranking"])]
    same = all(
        entry["metrics"].get(name) == entry["metrics"].get(f"{name}_all")
        for entry in content["ranking"]
        for name in ("pseudo/miou", "seg/miou")
    )
    return list(content["axes"]), [name for name in shown if not (same and name.endswith("_all"))]


def _rows(content: Mapping[str, Any]) -> list[list[str]]:
    from orchestrator.plan import show

    axes, metrics = _columns(content)
    return [
        [
            str(position + 1),
            *(show(entry["config"].get(key, "")) for key in axes),
            *(_cell(entry, name) for name in metrics),
            str(len(entry["seeds"])),
        ]
        for position, entry in enumerate(content["ranking"])
    ]


def _cell(entry: Mapping[str, Any], name: str) -> str:
    value, spread = entry["metrics"].get(name), entry["spread"].get(name)
    if value is None:
        return ""
    return f"{value:.4f} ± {spread:.4f}" if spread else f"{value:.4f}"


def _facts(content: Mapping[str, Any]) -> list[str]:
    protocol, data, scored = content["protocol"], content["data"], content["data"]["scored_classes"]
    return [
        f"Data: {data['name']}, {data['train_images']} train and {data['val_images']} val images; mIoU over "
        f"{len(scored)} of {len(data['classes']) + 1} classes, background included.",
        f"Background threshold: {protocol['threshold']}.",
        f"cam/miou: {protocol['cam/miou']}. pseudo/miou: {protocol['pseudo/miou']}. seg/miou: {protocol['seg/miou']}. "
        f"val/map: {protocol['val/map']}.",
        "Classes without a pixel in the ground truth "
        + ("are left out of the mean." if protocol["absent_classes"] == "skip" else "count as 0."),
        f"Figures are means over seeds {content['seeds']}, ± the sample standard deviation.",
    ]


def _markdown(content: Mapping[str, Any], figures: Sequence[tuple[Path, str]]) -> str:
    axes, metrics = _columns(content)
    header = ["#", *axes, *metrics, "seeds"]
    lines = [f"# {content['name']}", "", content["question"], ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(content)]
    lines += ["", *(f"- {fact}" for fact in _facts(content))]
    if content["segmentation"]:
        lines += ["", "## Segmentation", ""]
        lines += [f"- {job['title']}: {_job(job)}; labels `{job['label_artifact']}`" for job in content["segmentation"]]
    if content["failures"]:
        lines += [
            "",
            "## Failed",
            "",
            *(f"- `{key}`: {reason}" for key, reason in content["failures"].items()),
        ]
    lines += [f"\n![{caption}](figures/{path.name})" for path, caption in figures]
    lines += ["", f"Code {content['code']}; {content['created']}"]
    return "\n".join(lines) + "\n"


def _html(content: Mapping[str, Any], figures: Sequence[tuple[Path, str]], overlays: Sequence[tuple[Path, str]]) -> str:
    axes, metrics = _columns(content)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["#", *axes, *metrics, "seeds"])
    rows = "".join(
        f"<tr{' class=best' if index == 0 else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for index, row in enumerate(_rows(content))
    )
    parts = [
        f"<h1>{html.escape(content['name'])}</h1><p>{html.escape(content['question'])}</p>",
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>",
        "<ul>" + "".join(f"<li>{html.escape(fact)}</li>" for fact in _facts(content)) + "</ul>",
    ]
    if content["segmentation"]:
        jobs = "".join(
            f"<tr><td class=text>{html.escape(job['title'])}</td><td>{_job(job)}</td>"
            f"<td class=text><code>{job['label_artifact']}</code></td></tr>"
            for job in content["segmentation"]
        )
        parts.append(
            "<h2>Segmentation</h2><table><tr><th>trained on the labels of</th><th>result</th><th>labels</th></tr>"
            f"{jobs}</table>"
        )
    if content["failures"]:
        failed = "".join(
            f"<li><code>{html.escape(k)}</code>: {html.escape(v)}</li>" for k, v in content["failures"].items()
        )
        parts.append(f"<h2>Failed</h2><ul>{failed}</ul>")
    parts.append("<h2>Curves</h2>" + "".join(_figure(path, caption) for path, caption in figures))
    if overlays:
        parts.append("<h2>Overlays</h2><p class=small>image, CAM, pseudo-label, ground truth; white is ignored</p>")
        parts.append("".join(_figure(path, caption) for path, caption in overlays))
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    parts.append(
        f"<p class=small>{html.escape(content['created'])}; code {html.escape(content['code'])}; {versions}</p>"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(content['name'])}</title>"
        f"<style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _job(job: Mapping[str, Any]) -> str:
    return f"seg/miou {job['metrics']['seg/miou']:.4f}" if job["metrics"] else "not finished"


def _figure(path: Path, caption: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><img src='data:image/png;base64,{encoded}' alt='{html.escape(caption)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _overlays(content: Mapping[str, Any], store: ArtifactStore) -> list[tuple[Path, str]]:
    """Those of the best configuration's labels."""
    if not content["ranking"] or not store.has(content["ranking"][0]["label_artifact"]):
        return []
    folder = store.get(content["ranking"][0]["label_artifact"]) / "overlays"
    return [(path, path.stem) for path in sorted(folder.glob("*.png"))[:OVERLAYS]]


def main(arguments: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.report", description="Write report.html and report.md."
    )
    parser.add_argument("sweep", help="name of a sweep under the runs folder, or its YAML")
    parser.add_argument("--runs", default="runs", help="the runs folder (default: runs; a YAML names its own)")
    options = parser.parse_args(arguments)
    from aream.errors import AreamError
    from orchestrator.locate import locate

    try:
        workplace = locate(options.sweep, Path(options.runs))
        if not workplace.summary_file.exists():
            raise AreamError(f"{workplace.summary_file}: the sweep has no results yet")
        content = json.loads(workplace.summary_file.read_text())
        for path in write_report(content, workplace.store(), workplace.folder)[:2]:
            print(path)
    except AreamError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
