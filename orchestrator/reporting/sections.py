"""The parts of a report as data: headings, sentences and tables, however they are written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.reporting.ranking_table import FRONT, front_marks, ranking_rows, tie_marks, winners
from orchestrator.search.stopped_trials import stopped_sentence
from orchestrator.spec.metrics import GPU_SECONDS, known, number, of_segmentation
from orchestrator.spec.metrics import columns as listed_columns
from orchestrator.spec.settings import Goal
from orchestrator.text import duration, many, shown_beside

TO_BASELINE = "difference to the baseline"
OVER_ALL = "_all"
"""Ends the name of a mean over all classes, where another is over the scored ones."""
LISTED_PAIRS = 50


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = frozenset()
    """Rows that stand out."""
    text: frozenset[int] = frozenset()
    """Columns of words, not numbers."""


@dataclass(frozen=True)
class Section:
    heading: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    points: Sequence[str] = field(default=())
    """A list after the table."""


def sections(content: Mapping[str, Any]) -> list[Section]:
    """Everything a report says in words and numbers, of a summary's content, beside the answer and the ranking."""
    made = [_pairs(content), _front(content), _importance(content), _cost(content)]
    made += [_segmentation(content), _left_out(content), _origins(content), _stopped(content), _failures(content)]
    return [section for section in made if section is not None]


def columns(content: Mapping[str, Any]) -> list[str]:
    """The metrics worth a column: those that occur and say something of their own, and what is ranked by."""
    ranking, wanted = content["ranking"], [*listed_columns("always", "report")]
    wanted += [content["rank"]["metric"]] if content["rank"]["metric"] not in wanted else []
    shown = [name for name in wanted if any(name in entry["metrics"] for entry in ranking)]
    over_all = [name for name in shown if name.endswith(OVER_ALL)]
    if all(entry["metrics"].get(name) == entry["metrics"].get(name.removesuffix(OVER_ALL))
           for entry in ranking for name in over_all):  # fmt: skip
        shown = [name for name in shown if name not in over_all]
    if not any(entry["metrics"].get(GPU_SECONDS) for entry in ranking):
        shown = [name for name in shown if name != GPU_SECONDS]
    return shown


def difference(pair: Mapping[str, Any] | None) -> str:
    """A paired difference as text; nothing about chance where the seeds are too few to tell."""
    if pair is None:
        return ""
    spread = "" if pair["spread"] is None else f" ± {pair['spread']:.4f}"
    seeds = f", better in {pair['better']}" if pair["better"] is not None else ""
    return f"{pair['mean']:+.4f}{spread} (n={pair['n']}{seeds})"


def front_caption(pareto: Mapping[str, Any]) -> str:
    """Caption of the Pareto front: its metrics, each with its good end."""
    objectives = [f"{goal['metric']} ({goal['mode']})" for goal in pareto["objectives"]]
    return f"Pareto-optimal in {' and '.join(objectives)}"


def ranking_section(content: Mapping[str, Any]) -> Section:
    """Every configuration with its metrics, and what is to know about them."""
    axes, metrics, entries = list(content["axes"]), columns(content), content["ranking"]
    compared = any(entry.get("paired") for entry in entries)
    marks = {"tie": tie_marks(content), "front": front_marks(content)}
    shown = {name: cells for name, cells in marks.items() if cells is not None}
    header = [
        "#",
        *axes,
        *metrics,
        *([TO_BASELINE] if compared else []),
        "seeds",
        *shown,
    ]
    rows = [
        [
            *cells,
            *([difference(entry.get("paired"))] if compared else []),
            str(len(entry["seeds"])),
            *(cells[position] for cells in shown.values()),
        ]
        for position, (entry, cells) in enumerate(zip(entries, ranking_rows(content, metrics), strict=True))
    ]
    table = Table(header, rows, marked=winners(content), text=frozenset(range(1, 1 + len(axes))))
    return Section("Ranking", (), table, _facts(content, compared))


def counted(content: Mapping[str, Any]) -> str:
    """Over how many classes the means are really taken: those of the scored ones that the masks show."""
    data = content["data"]
    shown = []
    for name in ("pseudo", "seg"):
        numbers = sorted(
            {
                int(entry["metrics"][key])
                for entry in content["ranking"]
                if (key := f"{name}/classes") in entry["metrics"]
            }
        )
        if numbers:
            shown.append(f"{name}/miou {' to '.join(str(end) for end in dict.fromkeys((numbers[0], numbers[-1])))}")
    scored = f"{len(data['scored_classes'])} of {len(data['classes']) + 1} classes, background included, are scored"
    return f"{scored}; masks show of these: {', '.join(shown)}" if shown else f"{scored}; no mask shows any"


def _facts(content: Mapping[str, Any], compared: bool) -> list[str]:
    protocol, data = content["protocol"], content["data"]
    facts = [
        f"Data: {data['name']}, {data['train_images']} train and {data['val_images']} val images.",
        f"{counted(content)}.",
        f"Background threshold: {protocol['threshold']}.",
        *(f"{name}: {metric.caption}." for name in columns(content) if (metric := known(name)) is not None),
        "Classes without a pixel in the ground truth "
        + ("are left out of the mean." if protocol["absent_classes"] == "skip" else "count as 0."),
        f"Figures are means over seeds {content['seeds']}, ± the sample standard deviation.",
    ]
    facts += [f"Plug-in {one['module']}: {one['place']}, {one['digest']}." for one in content.get("plugins", [])]
    facts += content.get("remarks", [])
    if compared:
        facts.append(
            f"{TO_BASELINE}: of {content['rank']['metric']}, to the best configuration trained without the method, all "
            "other axes equal, seed by seed; mean ± sample standard deviation of the differences."
        )
    return facts


def _pairs(content: Mapping[str, Any]) -> Section | None:
    pairs = [(position, entry["paired"]) for position, entry in enumerate(content["ranking"]) if entry.get("paired")]
    if not pairs:
        return None
    seeds = sorted({seed for _, pair in pairs for seed in pair["differences"]}, key=int)
    rows = [
        [
            f"#{position + 1}",
            f"#{pair['baseline'] + 1}",
            *(f"{pair['differences'][seed]:+.4f}" if seed in pair["differences"] else "" for seed in seeds),
            difference(pair),
        ]
        for position, pair in pairs[:LISTED_PAIRS]
    ]
    sentences = [f"{content['rank']['metric']} of a configuration minus that of the baseline with the same seed."]
    if len(pairs) > LISTED_PAIRS:
        sentences.append(f"The first {LISTED_PAIRS} of {len(pairs)} configurations; all are in summary.json.")
    header = ["configuration", "baseline", *(f"seed {seed}" for seed in seeds), "mean ± std"]
    return Section("Against the baseline, seed by seed", sentences, Table(header, rows))


def _front(content: Mapping[str, Any]) -> Section | None:
    pareto = content.get("pareto")
    if not pareto or front_marks(content) is None:
        return None
    goals = [goal["metric"] for goal in pareto["objectives"]]
    texts = shown_beside([entry["config"] for entry in content["ranking"]])
    last = Goal(**pareto["objectives"][-1])
    entries = sorted(
        ((position, content["ranking"][position]) for position in pareto["front"]),
        key=lambda item: -last.merit(item[1]["metrics"]),
    )
    rows = [
        [
            f"#{position + 1}",
            *(texts[position].get(key, "") for key in content["axes"]),
            *(number(name, entry["metrics"][name], entry["spread"].get(name)) for name in goals),
        ]
        for position, entry in entries
    ]
    sentence = f"These are {front_caption(pareto)}; marked {FRONT} in the ranking."
    words = frozenset(range(1, 1 + len(content["axes"])))
    return Section("Pareto front", [sentence], Table(["#", *content["axes"], *goals], rows, text=words))


def _importance(content: Mapping[str, Any]) -> Section | None:
    found = content.get("importance")
    if not found:
        return None
    if "left_out" in found:
        return Section("Importance of the axes", [found["left_out"]])
    sentence = (
        f"{found['method']}: how much each axis decides whether a configuration is among the best {found['top']} of "
        f"{found['configurations']} by {found['metric']}. Shares of the axes that vary; a share says nothing about "
        "which value is better."
    )
    if "of" in found:
        sentence += (
            f" One in {round(found['of'] / found['configurations'])} of the {found['of']} configurations is counted."
        )
    rows = [[key, f"{share:.3f}"] for key, share in found["shares"].items()]
    return Section("Importance of the axes", [sentence], Table(["axis", "share"], rows))


def _cost(content: Mapping[str, Any]) -> Section | None:
    cost, found = content.get("cost"), content.get("store")
    if not cost:
        return None
    sentences = [_compared("Worker time", cost["seconds"], cost["separate_seconds"])]
    if cost["gpu_seconds"]:
        sentences.append(_compared("GPU time", cost["gpu_seconds"], cost["separate_gpu_seconds"]))
    if cost["segmentation_seconds"]:
        gpu = f", {duration(cost['segmentation_gpu_seconds'])} of GPU" if cost["segmentation_gpu_seconds"] else ""
        sentences.append(f"Segmentation took {duration(cost['segmentation_seconds'])}{gpu} beyond that.")
    for job, why in content.get("settled", {}).items():
        sentences.append(f"resources.{job}.gpu: auto became {content['resources'][job]['gpu']:g}: {why}.")
    sentences.append("Counted are finished stages; what failed or was stopped left no record of its time.")
    if found:
        tasks = ", ".join(
            f"{counts['stored']} of {counts['all']} {kind} tasks" for kind, counts in found["tasks"].items()
        )
        sentences.append(
            f"From the store in this run: {tasks or 'no task'}; {found['stages']['stored']} of "
            f"{found['stages']['all']} stages behind the results, {duration(found['saved_seconds'])} of work."
        )
    return Section("Cost", sentences)


def _compared(what: str, spent: float, separate: float) -> str:
    ratio = f", {separate / spent:.1f} times as much" if spent else ""
    return (
        f"{what} behind all labels: {duration(spent)}, each stage once. One training a configuration and seed would "
        f"have taken {duration(separate)}{ratio}."
    )


def _segmentation(content: Mapping[str, Any]) -> Section | None:
    if not content["segmentation"]:
        return None
    rows = [
        [
            job["title"],
            segmenter_result(job) or "not finished",
            job["label_artifact"],
        ]
        for job in content["segmentation"]
    ]
    header = ["trained on the labels of", "result", "labels"]
    return Section("Segmentation", (), Table(header, rows, text=frozenset({0, 2})))


def _origins(content: Mapping[str, Any]) -> Section | None:
    rows = content.get("origins")
    if not rows:
        return None
    names = ("stage", "components", "count", "version", "source", "code", "torch", "device")
    cells = [[str(row.get(name, ""))[: 19 if name == "code" else None] for name in names] for row in rows]
    sentence = "Origin of the stages behind the results; source: a digest of the code that a stage runs."
    return Section("Made by", [sentence], Table(names, cells, text=frozenset({0, 1, 4, 5, 6, 7})))


def _left_out(content: Mapping[str, Any]) -> Section | None:
    """Every image that the dataset is without."""
    images = content["data"].get("left_out")
    if not images:
        return None
    counts = Counter(images.values())
    sentences = [f"{many(count, 'image')} left out: {why}." for why, count in counts.items()]
    rows = [[image, why] for image, why in images.items()]
    return Section("Images left out", sentences, Table(["image", "why"], rows, text=frozenset({0, 1})))


def segmenter_result(job: Mapping[str, Any]) -> str:
    """Empty where it has none."""
    metrics = job["metrics"]
    return ", ".join(f"{name} {number(name, metrics[name])}" for name in of_segmentation() if name in metrics)


def _stopped(content: Mapping[str, Any]) -> Section | None:
    stopped = content.get("stopped", {})
    points = [f"{title}: {reason}" for title, reason in stopped.items()]
    return Section("Stopped early", (stopped_sentence(stopped),), points=points) if stopped else None


def _failures(content: Mapping[str, Any]) -> Section | None:
    failed = [f"{key}: {reason}" for key, reason in content["failures"].items()]
    failed += [f"{title}: not ranked, {reason}" for title, reason in content.get("unranked", {}).items()]
    return Section("Failed", points=failed) if failed else None
