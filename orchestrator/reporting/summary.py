"""The result of a sweep as data: ``summary.json``, and the tables made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from aream.config import plain
from aream.data.dataset import Dataset
from aream.labels.pseudo_labels import RULE_DESCRIPTIONS
from aream.selection import remark, scored_labels
from orchestrator.monitor.state import SweepState
from orchestrator.results.answer import answer
from orchestrator.results.configurations import MOST_DETAILED, command_for, settings, told_apart
from orchestrator.results.importance import axis_importance
from orchestrator.results.method_pull import pull_remarks
from orchestrator.results.origins import by_other_code, mixed, origins, other_code_sentence
from orchestrator.results.pairing import paired_differences, without_loss
from orchestrator.results.paper import compared
from orchestrator.results.pareto import objectives, told_front
from orchestrator.results.ranking import Ranked, mean_and_spread
from orchestrator.results.records import Records, RememberedRecords
from orchestrator.results.savings import stored_before, sweep_cost
from orchestrator.results.segmentation_jobs import SegmentationJob
from orchestrator.search.stopped_trials import stopped_tasks
from orchestrator.spec.metric_checks import remarks
from orchestrator.spec.metrics import known
from orchestrator.spec.spec import SweepSpec
from orchestrator.tracking.pages import RecordPages
from orchestrator.tracking.run_names import segmentation_run, variant_run
from workers.components import build_dataset
from workers.plugins import active
from workers.processes.provenance import code_revision, library_versions
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
    record: RecordPages | None = None
    """Pages of its runs, where it was recorded."""

    def to_json(self, store: Records) -> dict[str, Any]:
        spec, records = self.spec, RememberedRecords(store)
        dataset = build_dataset(spec.base.data)
        entries = [entry.to_json(spec.ranked_by) for entry in self.ranking]
        jobs = [self._job(job, records) for job in self.jobs]
        for position, entry in enumerate(entries):
            rows = [job for job in jobs if job["rank"] == position and job["metrics"]]
            by_seed = {
                seed: mean_and_spread(own)[0]  # over the segmentation axes
                for seed in entry["per_seed"]
                if (own := [row["metrics"] for row in rows if str(row["seed"]) == seed])
            }
            if by_seed:
                means, spread = mean_and_spread(list(by_seed.values()))
                entry["metrics"] |= means
                entry["spread"] |= spread
            for seed, found in by_seed.items():
                entry["per_seed"][seed] = entry["per_seed"][seed] | found
            entry["method"] = self._trials[position].method.name
            entry["without_loss"] = without_loss(entry["method"])
        for entry, difference in zip(entries, paired_differences(entries, spec.ranked_by), strict=True):
            entry["paired"] = difference
        shared, own_settings = told_apart([settings(trial) for trial in self._trials[:MOST_DETAILED]])
        for position, (entry, own_setting) in enumerate(zip(entries, own_settings, strict=False), start=1):
            entry["settings"] = own_setting
            entry["command"] = command_for(spec, entry["config"], position)
        for position, entry in enumerate(entries):
            entry["pages"] = self._pages(position)
        goals = objectives(spec)
        kinds = {axis.key: axis.kind for axis in spec.axes}
        return {
            "name": spec.name,
            "question": spec.description,
            "answer": answer(entries, [axis.key for axis in spec.axes], spec.ranked_by),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "rank": asdict(spec.ranked_by),
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
                "left_out": dict(getattr(dataset, "left_out", {})),
            },
            "metrics": {
                name: {"caption": metric.caption, "unit": metric.unit, "better": metric.better}
                for name in dict.fromkeys(name for entry in entries for name in entry["metrics"])
                if (metric := known(name)) is not None
            },
            "protocol": self._protocol(),
            "settings": shared,
            "plugins": [{"module": p.module, "place": p.place, "digest": p.digest} for p in active()],
            "ranking": entries,
            "paper": compared(spec, entries),
            "pareto": {
                "objectives": [asdict(objective) for objective in goals],
                "front": told_front(entries, goals, asked=spec.search is not None and len(spec.search.objectives) > 1),
            },
            "importance": axis_importance(entries, kinds, spec.ranked_by),
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
            "record": None if self.record is None else {"command": self.record.command},
            "code": code_revision(),
            "versions": library_versions(),
        }

    def _pages(self, position: int) -> dict[str, str]:
        """Name of each recorded run of a row -> URL of its page."""
        if self.record is None:
            return {}
        entry, found = self.ranking[position], self.record.runs
        runs = {
            f"seed {seed}": variant_run(entry.trial_keys[seed], variant.stages.labels.key)
            for seed, variant in sorted(entry.variants.items())
        }
        for job in self.jobs:
            if job.rank == position:
                name = f"segmenter, seed {job.seed}{', ' + job.point if job.point else ''}"
                runs[name] = segmentation_run(job.stage.key)
        return {name: found[run] for name, run in runs.items() if run in found}

    def _origins(self, records: Records) -> list[dict[str, Any]]:
        return origins(self._stages(), records)

    def _mixtures(self, records: Records) -> list[str]:
        """Sentences about differences of code, torch or device among the results."""
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
        """One trial of each ranked configuration; building one takes a third of a millisecond."""
        return [self.spec.trial(entry.config, self.spec.seeds[0]) for entry in self.ranking]

    def _of_trainings(self, records: Records) -> list[Mapping[str, float]]:
        """Metrics of every training, once each."""
        trainings = {stage.inputs["host"].key for stage in self._stages() if stage.name == "infer_cam"}
        return [records.record(key).metrics for key in trainings]

    def _epochs_judged_otherwise(self, dataset: Dataset) -> list[str]:
        """Remarks on trainings whose kept epoch was not chosen by the requested metric."""
        trains = {trial.train: None for trial in self._trials}
        labels = scored_labels(dataset) if trains else None
        said = [remark(train, labels) for train in trains] if labels is not None else []
        return list(dict.fromkeys(text for text in said if text is not None))

    def _protocol(self) -> dict[str, str]:
        """The rule of the background threshold, and the treatment of absent classes."""
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
