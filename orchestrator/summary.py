"""The result of a sweep as data: ``summary.json``, and the tables made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aream.config import canonical, plain
from aream.data._protocol import Dataset
from aream.pseudo_labels import RULE_DESCRIPTIONS
from aream.selection import remark, scored_labels
from orchestrator.comparison_sections import paper_lines
from orchestrator.downstream import SegmentationJob
from orchestrator.importance import axis_importance
from orchestrator.method_pull import pull_remarks
from orchestrator.metric_checks import remarks
from orchestrator.metric_list import columns, known, number
from orchestrator.origins import by_other_code, mixed, origins, other_code_sentence
from orchestrator.pairing import paired_differences, without_loss
from orchestrator.paper import compared
from orchestrator.pareto import front, objectives
from orchestrator.plan import shown_beside
from orchestrator.ranking import Ranked, mean_and_spread
from orchestrator.recording import trial_run
from orchestrator.records import Records, RememberedRecords
from orchestrator.report import write_report
from orchestrator.report_sections import FRONT, counted, front_caption, segmenter_result
from orchestrator.savings import stored_before, sweep_cost
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState
from orchestrator.stopped_trials import stopped_sentence, stopped_tasks
from orchestrator.workplace import Workplace
from workers.artifacts.store import ArtifactStore
from workers.atomic_write import write_json
from workers.components import build_dataset
from workers.provenance import code_revision, library_versions
from workers.stage import Stage
from workers.trial import TrialConfig


@dataclass(frozen=True)
class Summary:
    spec: SweepSpec
    ranking: Sequence[Ranked]
    jobs: Sequence[SegmentationJob]
    failures: Mapping[str, str]
    fingerprints: Mapping[str, str]
    run: SweepState | None = None
    """The run that made it; what that found in the store is reported."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """Job -> why it got the GPUs it got, where the sweep file left that open."""
    unranked: Mapping[str, str] = field(default_factory=dict)
    """Title of a configuration without the metric that is ranked by -> why."""

    def to_json(self, store: Records) -> dict[str, Any]:
        spec, records = self.spec, RememberedRecords(store)
        dataset = build_dataset(spec.base.data)
        entries = [entry.to_json(spec.ranked_by.metric, spec.ranked_by.mode) for entry in self.ranking]
        jobs = [self._job(job, records) for job in self.jobs]
        for position, entry in enumerate(entries):
            rows = [job for job in jobs if job["rank"] == position and job["metrics"]]
            if rows:
                means, spread = mean_and_spread([row["metrics"] for row in rows])
                entry["metrics"] |= means
                entry["spread"] |= spread
            for seed, metrics in entry["per_seed"].items():
                own = [row["metrics"] for row in rows if str(row["seed"]) == seed]
                entry["per_seed"][seed] = metrics | (mean_and_spread(own)[0] if own else {})
            entry["method"] = self._trials[position].method.name
            entry["without_loss"] = without_loss(entry["method"])
        for entry, difference in zip(
            entries, paired_differences(entries, spec.ranked_by.metric, spec.ranked_by.mode), strict=True
        ):
            entry["paired"] = difference
        goals = objectives(spec)
        kinds = {axis.key: axis.kind for axis in spec.axes}
        return {
            "name": spec.name,
            "question": spec.description,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "rank": {"metric": spec.ranked_by.metric, "mode": spec.ranked_by.mode},
            "axes": [axis.key for axis in spec.axes],
            "axis_kinds": kinds,
            "seeds": list(spec.seeds),
            "data": {
                "name": spec.base.data.name,
                "fingerprints": sorted(set(self.fingerprints.values())),
                "train_images": len(dataset.ids("train")),
                "val_images": len(dataset.ids("val")),
                "classes": list(dataset.class_names),
                "scored_classes": list(dataset.scored_classes),
            },
            "metrics": {
                name: {"caption": metric.caption, "unit": metric.unit, "better": metric.better}
                for name in dict.fromkeys(name for entry in entries for name in entry["metrics"])
                if (metric := known(name)) is not None
            },
            "protocol": self._protocol(),
            "ranking": entries,
            "paper": compared(spec, entries),
            "pareto": {
                "objectives": [asdict(objective) for objective in goals],
                "front": front([entry["metrics"] for entry in entries], goals),
            },
            "importance": axis_importance(entries, kinds, spec.ranked_by.metric, spec.ranked_by.mode),
            "cost": sweep_cost(self.ranking, [job.stage for job in self.jobs], records, spec.resources),
            "resources": plain(self.spec.resources),
            "settled": dict(self.settled),
            "store": None if self.run is None else stored_before(self.run, self._stages(), records),
            "segmentation": jobs,
            "failures": dict(self.failures),
            "unranked": dict(self.unranked),
            "remarks": [
                *remarks(spec),
                *self._epochs_judged_otherwise(dataset),
                *pull_remarks(self._of_trainings(records)),
                *self._mixtures(records),
            ],
            "origins": self._origins(records),
            "stopped": {} if self.run is None else stopped_tasks(self.run),
            "code": code_revision(),
            "versions": library_versions(),
        }

    def _origins(self, records: Records) -> list[dict[str, Any]]:
        return origins(self._stages(), records)

    def _mixtures(self, records: Records) -> list[str]:
        """What is not one among the results."""
        behind = {ancestor.key: ancestor for stage in self._stages() for ancestor in stage.ancestry()}
        other = other_code_sentence(by_other_code(behind.values(), records))
        return [*mixed(self._origins(records)), *([other] if other else [])]

    def _stages(self) -> Iterator[Stage]:
        for entry in self.ranking:
            for variant in entry.variants.values():
                yield from variant.stages.all()
        yield from (job.stage for job in self.jobs)

    @cached_property
    def _trials(self) -> list[TrialConfig]:
        """Of each ranked configuration; one takes a third of a millisecond."""
        return [self.spec.trial(entry.config, self.spec.seeds[0]) for entry in self.ranking]

    def _of_trainings(self, records: Records) -> list[Mapping[str, float]]:
        """Metrics of every training, once each."""
        trainings = {stage.inputs["host"].key for stage in self._stages() if stage.name == "infer_cam"}
        return [records.record(key).metrics for key in trainings]

    def _epochs_judged_otherwise(self, dataset: Dataset) -> list[str]:
        """What to say of trainings whose kept epoch was not chosen by the metric that was asked for."""
        trains = {trial.train: None for trial in self._trials}
        labels = scored_labels(dataset) if trains else None
        said = [remark(train, labels) for train in trains] if labels is not None else []
        return list(dict.fromkeys(text for text in said if text is not None))

    def _protocol(self) -> dict[str, str]:
        """How the threshold was set, and what counts."""
        rules = {trial.labels.rule for trial in self._trials} or {self.spec.base.labels.rule}
        return {
            "threshold": "; ".join(sorted(RULE_DESCRIPTIONS[rule] for rule in rules)),
            "absent_classes": self.spec.base.labels.absent_classes,
        }

    def _job(self, job: SegmentationJob, records: Records) -> dict[str, Any]:
        stored = records.has(job.stage.key)
        return {
            "key": job.stage.key,
            "title": job.title,
            "rank": job.rank,
            "seed": job.seed,
            "point": job.point,
            "label_artifact": job.labels.key,
            "trial_key": job.trial_key,
            "metrics": records.record(job.stage.key).metrics if stored else {},
        }

    def description(self, notes: Sequence[str] = ()) -> str:
        """Markdown for the tracker's parent run, with links to its children (``{{run:...}}`` is filled in there)."""
        content = [self.spec.description, ""] if self.spec.description else []
        keys = [axis.key for axis in self.spec.axes]
        metrics = _columns(self.spec.ranked_by.metric, [entry.metrics for entry in self.ranking])
        content.append("| | " + " | ".join([*keys, *metrics, "trials"]) + " |")
        content.append("|---" * (len(keys) + len(metrics) + 2) + "|")
        texts = shown_beside([entry.config for entry in self.ranking])
        for position, entry in enumerate(self.ranking[:20]):
            cells = [texts[position].get(key, "") for key in keys]
            cells += [number(name, entry.metrics.get(name), entry.spread.get(name)) for name in metrics]
            links = [f"[seed {seed}]({{{{run:{trial_run(entry.trial_keys[seed])}}}}})" for seed in entry.seeds]
            content.append(f"| {position + 1} | " + " | ".join([*cells, " ".join(links)]) + " |")
        for job in self.jobs:
            content.append("")
            content.append(f"[segmentation: {job.title}]({{{{run:segmentation/{job.stage.key}}}}})")
        content += ["", *(f"{name}: {metric.caption}.  " for name in metrics if (metric := known(name)) is not None)]
        if self.run is not None and (sentence := stopped_sentence(stopped_tasks(self.run))):
            content += ["", f"{sentence}."]
        content += [f"\nNote: {sentence}." for sentence in notes]
        content += ["", f"Background threshold: {self._protocol()['threshold']}."]
        return "\n".join(content)


def write_summary(
    summary: Summary, workplace: Workplace, store: ArtifactStore, records: Records | None = None
) -> list[Path]:
    """Write summary.json, report.html, report.md and figures; returns what a tracker should keep.

    Args:
        records: what is known of the artifacts already; None: the store tells.
    """
    content = summary.to_json(records or store)
    canonical(content)  # refuses NaN and anything that is not plain data before it is written
    write_json(workplace.summary_file, content, indent=1)
    return [workplace.summary_file, *write_report(content, store, workplace.folder)]


def ranked_table(content: Mapping[str, Any], limit: int = 20) -> Table:
    """The ranking for a terminal."""
    table = Table(title=f"{content['name']}: ranked by {content['rank']['metric']}", title_justify="left")
    metrics = _columns(content["rank"]["metric"], [entry["metrics"] for entry in content["ranking"]])
    front = content["pareto"]["front"]
    table.add_column("#", justify="right")
    for key in content["axes"]:
        table.add_column(key.removeprefix("method.").removeprefix("inference."), overflow="fold")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front")
    texts = shown_beside([entry["config"] for entry in content["ranking"]])
    for position, entry in enumerate(content["ranking"][:limit]):
        table.add_row(
            str(position + 1),
            *(escape(texts[position].get(key, "")) for key in content["axes"]),
            *(number(name, entry["metrics"].get(name), entry["spread"].get(name)) for name in metrics),
            FRONT if position in front else "",
        )
    return table


def print_results(content: Mapping[str, Any]) -> None:
    width = None if os.isatty(1) else 140
    console = Console(width=width, highlight=False)
    console.print(ranked_table(content))
    console.print(f"front: {FRONT} where {front_caption(content['pareto'])}", markup=False)
    for job in content["segmentation"]:
        if job["metrics"]:
            console.print(f"segmenter on labels {job['title']}: {segmenter_result(job)}", markup=False)
    for line in content["remarks"]:
        console.print(f"note: {line}", markup=False)
    if content["stopped"]:
        console.print(stopped_sentence(content["stopped"]), markup=False)
    for title, why in content["unranked"].items():
        console.print(f"not ranked: {title}: {why}", markup=False)
    console.print(f"background threshold: {content['protocol']['threshold']}")
    console.print(f"classes: {counted(content)}", markup=False)
    for line in paper_lines(content):
        console.print(line, markup=False)


def _columns(ranked_by: str, results: Sequence[Mapping[str, float]]) -> list[str]:
    """What a table in a terminal or a description has room for: the main metrics, and what is ranked by."""
    wanted = dict.fromkeys([*columns("always"), ranked_by])
    return [name for name in wanted if any(name in metrics for metrics in results)]
