"""Record a sweep as runs: sweep > trial > variant or segmentation job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aream.errors import ArtifactCorrupt, ArtifactNotFound, DataError
from orchestrator.plan.planner import TrialPlan, Variant
from orchestrator.results.origins import origin_of
from orchestrator.results.records import Records, stage_metrics
from orchestrator.spec.metrics import columns, of_segmentation, selected
from orchestrator.spec.recorded_plugins import as_recorded
from orchestrator.spec.spec import SweepSpec
from orchestrator.text import show
from orchestrator.tracking.later import BackgroundQueue
from orchestrator.tracking.pages import RecordPages
from orchestrator.tracking.recorded_steps import RecordedSteps
from orchestrator.tracking.run_names import SWEEP, analysis_of, segmentation_run, trial_run, variant_run
from orchestrator.tracking.run_parameters import params, title
from orchestrator.tracking.tracker import Tracker
from workers.artifacts.blobs import by_blob
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore
from workers.files.figures import FIGURES_FILE, parse_figures
from workers.processes.atomic_write import write_json, write_text
from workers.processes.masking import masked, masked_content
from workers.processes.provenance import code_revision
from workers.stage import Row, Stage
from workers.stages.pseudo_label import OVERLAYS_FOLDER

log = logging.getLogger(__name__)


class Recorder:
    """Turns the driver's events into tracker calls, each thing once over all runs of the sweep."""

    def __init__(
        self,
        tracker: Tracker,
        spec: SweepSpec,
        fingerprints: Mapping[str, str],
        store: ArtifactStore,
        folder: Path,
    ) -> None:
        self.tracker, self.spec, self.store = tracker, spec, store
        self.later = BackgroundQueue("recording")
        self.ending: set[str] = set()
        """What waits to be recorded, by the names that it ends under."""
        self.folder = folder
        self.recorded = RecordedSteps(tracker)
        self.data_digest = "+".join(sorted({digest[:16] for digest in fingerprints.values()}))

    def open_sweep(self) -> None:
        spec = self.spec
        self.tracker.start_run(
            SWEEP,
            name=spec.name,
            tags={
                "aream.kind": "sweep",
                "aream.source": str(spec.path),
                "aream.spec": spec.digest[:16],
                "aream.code": code_revision(),
                "aream.data": self.data_digest,
            },
            params={axis.key: show(list(axis.extremes())) for axis in spec.axes} | {"seeds": show(list(spec.seeds))},
        )
        self.tracker.show_table(
            SWEEP,
            metrics=list(dict.fromkeys([spec.ranked_by.metric, *self._columns()])),
            params=[*(axis.key for axis in spec.axes), "seed"],
            best=spec.ranked_by.mode,
        )
        self.resolved(spec)
        source = spec.path.read_text(encoding="utf-8")
        if masked(source) == source:
            self.tracker.log_file(SWEEP, spec.path)
        else:
            without_password = self.folder / spec.path.name
            write_text(without_password, masked(source))
            self.tracker.log_file(SWEEP, without_password)

    def resolved(self, spec: SweepSpec) -> None:
        """The whole configuration; again once what it left open is decided."""
        config = self.folder / "config.json"
        write_json(config, masked_content({**spec.resolved(), **as_recorded(spec.folder)}), indent=1)
        self.tracker.log_file(SWEEP, config)

    def trial(self, trial: TrialPlan) -> None:
        if self.recorded.has_ended(trial.key) or trial.key in self.ending:
            return
        self.tracker.start_run(
            trial_run(trial.key),
            name=title(trial.shown, trial.seed),
            parent=SWEEP,
            tags={
                "aream.kind": "trial",
                "aream.trial_key": trial.key,
                "aream.stages": " ".join(stage.key for stage in trial.train.ancestry()),
                "aream.code": code_revision(),
                "aream.data": self.data_digest,
            },
            params={**{key: show(value) for key, value in trial.values.items()}, "seed": trial.seed},
        )
        data = self.spec.base.data
        self.tracker.log_dataset(trial_run(trial.key), data.name, self.data_digest[:36], data.name, "training")

    def row(self, key: str, row: Row, run: str) -> None:
        """One epoch; rows that an earlier run of this sweep logged are left out."""
        step = int(row.get("epoch", 0))
        if not self.recorded.is_new(key, step):
            return
        self.tracker.log_metrics(run, {name: value for name, value in row.items() if name != "epoch"}, step)
        self.recorded.add(key, step)

    def trial_row(self, trial: TrialPlan, row: Row) -> None:
        self.row(trial.key, row, trial_run(trial.key))

    def trial_done(self, trial: TrialPlan, records: Records) -> None:
        """Variants as runs of their own; the trial carries the best of them. Later runs may bring more of a training.

        It takes dozens of reads of the store, for pictures, so another thread does it.
        """
        names = {trial.key, *(_name(trial, variant) for variant in trial.variants), *_analyses(trial)}
        new = {name for name in names if not self.recorded.has_ended(name)} - self.ending
        if self.tracker.records and new:
            self.ending |= new
            self.later.do(lambda: self._trial_done(trial, records))

    def drop(self) -> None:
        """Leave what waits to the next run."""
        self.later.drop()

    def _trial_done(self, trial: TrialPlan, records: Records) -> None:
        ended = self.recorded.has_ended
        results = [stage_metrics((trial.train, *variant.stages.all()), records) for variant in trial.variants]
        new = {_name(trial, variant): variant for variant in trial.variants if not ended(_name(trial, variant))}
        labels = [variant.stages.labels.key for variant in new.values()]
        pictures = {key: self._pictures(key, records, "curve.json") for key in labels}
        for variant, metrics in zip(trial.variants, results, strict=True):
            if (name := _name(trial, variant)) in new:
                self._variant(name, trial, variant, metrics, pictures[variant.stages.labels.key], records)
                self.recorded.end(name)
        best = self.spec.ranked_by.best(results)
        if best:
            variant = next(variant for variant, metrics in zip(trial.variants, results, strict=True) if metrics is best)
            # Its curves end at the last epoch; what the labels were made with is that of the selected one.
            shown = {selected(name): value for name, value in best.items()}
            self.tracker.log_metrics(trial_run(trial.key), shown, len(records.record(trial.key).history))
            changed = not ended(trial.key) or _name(trial, variant) in new
            if changed:
                files = pictures.get(key := variant.stages.labels.key) or self._pictures(key, records)
                self._log_files(trial_run(trial.key), files, OVERLAYS_FOLDER)
            for analysis in variant.stages.analyses:
                if changed or not ended(analysis_of(trial.key, analysis.key)):
                    self._analysis(trial_run(trial.key), analysis, records)
        self.tracker.set_tags(trial_run(trial.key), _origin_tags(records.record(trial.key)))
        self.tracker.end_run(trial_run(trial.key), "FINISHED")
        for name in (*_analyses(trial), trial.key):
            if not ended(name):
                self.recorded.end(name)

    def trial_ended(self, trial: TrialPlan, status: str, reason: str) -> None:
        """Failed or stopped early; some fail before they start."""
        self.trial(trial)
        self.tracker.set_tags(trial_run(trial.key), {"aream.reason": reason[:4000]})
        self.tracker.end_run(trial_run(trial.key), status)

    def segmentation(
        self, job: Stage, title: str, labels: Stage, parent: str, metrics: Row, history: Sequence[Row]
    ) -> None:
        """A finished segmentation job, with its labels as lineage."""
        if self.recorded.has_ended(job.key):
            return
        run = segmentation_run(job.key)
        self.tracker.start_run(
            run,
            name=f"segmentation: {title}",
            parent=parent,
            tags={
                "aream.kind": "segmentation",
                "aream.stages": " ".join(stage.key for stage in job.ancestry()),
                "aream.labels": labels.key,
                "aream.data": self.data_digest,
                **_origin_tags(self.store.record(job.key)),
            },
            params={"label_artifact": labels.key},
        )
        for row in history:
            self.tracker.log_metrics(run, {k: v for k, v in row.items() if k != "epoch"}, int(row["epoch"]))
        self.tracker.log_metrics(run, metrics, len(history))
        self._log_files(run, self._pictures(job.key, self.store))
        self.tracker.end_run(run, "FINISHED")
        self.recorded.end(job.key)

    def pages(self, timeout_s: float) -> RecordPages | None:
        """Where the runs of trials and segmentation jobs are looked at, once they are recorded; no trial ends
        afterwards."""
        self.later.finish()
        return self.tracker.pages(timeout_s)

    def close_sweep(self, description: str, files: Sequence[Path], best: Mapping[str, float], status: str) -> None:
        self.tracker.describe(SWEEP, description)
        for path in files:
            self.tracker.log_file(SWEEP, path, "figures" if path.suffix == ".png" else "")
        self.tracker.log_metrics(SWEEP, {f"best/{name}": value for name, value in best.items()}, 0)
        self.tracker.end_run(SWEEP, status)

    def _columns(self) -> list[str]:
        """Metrics of a configuration that a table shows."""
        return [name for name in columns("always") if name not in of_segmentation()]

    def _variant(
        self,
        run: str,
        trial: TrialPlan,
        variant: Variant,
        metrics: Mapping[str, float],
        pictures: Mapping[str, bytes],
        records: Records,
    ) -> None:
        self.tracker.start_run(
            run,
            name=title(variant.shown, trial.seed),
            parent=trial_run(trial.key),
            tags={
                "aream.kind": "variant",
                "aream.trial_key": trial.key,
                "aream.labels": variant.stages.labels.key,
                "aream.stages": " ".join(stage.key for stage in variant.stages.all()),
                "aream.data": self.data_digest,
                **_origin_tags(records.record(variant.stages.labels.key)),
            },
            params=params(self.spec.trial(variant.values, trial.seed), variant.values, trial.seed),
        )
        self.tracker.log_metrics(run, metrics, 0)
        self._log_files(run, pictures)
        self.tracker.end_run(run, "FINISHED")

    def _pictures(self, key: str, records: Records, *others: str) -> dict[str, bytes]:
        """Overlays and ``others`` of an artifact by path: its thousands of labels stay where they are."""
        return self._contents(key, records, lambda path: path.startswith(f"{OVERLAYS_FOLDER}/") or path in others)

    def _contents(self, key: str, records: Records, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Files of an artifact by path, one read for those that lie beside each other."""
        if not self.tracker.records:
            return {}
        try:
            entries = [entry for entry in self.store.files(records.record(key)) if wanted(entry.path)]
            read = [(group, self.store.blobs.content(group, key)) for group in by_blob(entries)]
        except (ArtifactCorrupt, ArtifactNotFound) as error:  # whoever needs it computes it again; a record does not
            log.warning("not recorded: %s", error)
            return {}
        return {entry.path: content for group, contents in read for entry, content in zip(group, contents, strict=True)}

    def _log_files(self, run: str, files: Mapping[str, bytes], only: str = "") -> None:
        for path, content in files.items():
            folder, _, name = path.rpartition("/")
            if folder == OVERLAYS_FOLDER:
                self.tracker.log_image(run, f"{folder}/{name.rpartition('.')[0]}", content)
            elif folder.startswith(only):
                self.tracker.log_content(run, name, content, folder)

    def _analysis(self, run: str, stage: Stage, records: Records) -> None:
        """Record an analysis: its curves with the layer as step, and its pictures as files."""
        content = self._contents(stage.key, records, lambda path: path == FIGURES_FILE).get(FIGURES_FILE)
        if content is None:
            return
        try:
            figures = parse_figures(content)
        except DataError as error:
            log.warning("not recorded: %s", error)
            return
        for layer in range(max((len(curve.values) for curve in figures.curves), default=0)):
            values = {
                f"{stage.name}/{curve.name}": curve.values[layer]
                for curve in figures.curves
                if layer < len(curve.values)
            }
            self.tracker.log_metrics(run, values, layer)
        self.tracker.log_content(run, FIGURES_FILE, content, stage.name)
        shown = {picture.path: picture.name for picture in figures.pictures}
        for path, picture in self._contents(stage.key, records, lambda path: path in shown).items():
            self.tracker.log_content(run, f"{shown[path]}.png", picture, stage.name)


def _origin_tags(record: ArtifactRecord) -> dict[str, str]:
    """Tags for the origin of a result, which an earlier run of other code may have stored."""
    return {f"aream.{name}": value for name, value in origin_of(record).items()}


def _name(trial: TrialPlan, variant: Variant) -> str:
    return variant_run(trial.key, variant.stages.labels.key)


def _analyses(trial: TrialPlan) -> list[str]:
    """Names under which its analyses end, whichever of its variants they are of."""
    keys = {analysis.key for variant in trial.variants for analysis in variant.stages.analyses}
    return [analysis_of(trial.key, key) for key in sorted(keys)]
