"""A sweep's metrics beside Ray's own: Prometheus finds them where it finds Ray's, under ``ray_aream_...``.

The driver alone sends them, since it sees every row. Labels are the sweep and small fixed sets, never a trial. Counters
are of one run of the sweep's command: they begin anew where it is run again. Until Ray is there, and where its metrics
agent is not installed, they are counted and sent nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.monitor.state import SweepState
from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE, ENDED, ORDER
from orchestrator.plan.planner import TrialPlan
from orchestrator.results.records import Records, lineage_cost
from orchestrator.results.savings import from_earlier
from orchestrator.spec.metrics import SECONDS
from orchestrator.spec.settings import Resource
from workers.stage import Stage

PREFIX = "aream_"
SAMPLE_S = 5.0
"""Ray forgets a gauge that is not set again within twice its report interval of 10 s."""
STATUSES = ("waiting", "running", COMPUTED_ELSEWHERE, "paused", *ENDED)


@dataclass(frozen=True)
class PrometheusMetric:
    description: str
    labels: tuple[str, ...] = ()
    """Names of its labels beside that of the sweep."""
    gauge: bool = False


METRICS = {
    "stages_run": PrometheusMetric("stages computed, of trials and jobs that ended well", ("stage",)),
    "cache_hits": PrometheusMetric("stages that the store already had when this run began", ("stage",)),
    "stage_seconds": PrometheusMetric("worker seconds of the stages computed", ("stage",)),
    "gpu_seconds": PrometheusMetric("share of a GPU times seconds of the stages computed"),
    "saved_seconds": PrometheusMetric(
        "worker seconds not spent: because results share stages, or because the store had them", ("by",)
    ),
    "saved_gpu_seconds": PrometheusMetric("the same at the trials' share of a GPU", ("by",)),
    "failures": PrometheusMetric("trials, shared stages and segmentation jobs that failed", ("kind",)),
    "retries": PrometheusMetric("how often one was begun again because its worker was lost", ("kind",)),
    "tasks": PrometheusMetric("trials, shared stages and segmentation jobs by status", ("kind", "status"), gauge=True),
    "time_left_seconds": PrometheusMetric("seconds until all known work is done; absent while unknown", gauge=True),
    "tracking_events_waiting": PrometheusMetric("events that wait for the tracking server", gauge=True),
}


class Metrics:
    """Counts of one run; one thread uses it."""

    def __init__(
        self,
        state: SweepState,
        tracking_left: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.tracking_left, self.clock = state, tracking_left, clock
        self.totals: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        """(Counter, its labels) -> value."""
        self.instruments: Mapping[str, Any] = {}
        self._stages: set[str] = set()
        self._shared: set[str] = set()
        self._sampled = -SAMPLE_S
        self._told = False

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        if value <= 0:
            return
        key = name, tuple(labels.items())
        self.totals[key] = self.totals.get(key, 0.0) + value
        if self.instruments:
            self.instruments[name].inc(value, labels)

    def stages(self, stages: Iterable[Stage], records: Records, resource: Resource) -> None:
        """Count stages that a finished trial or job needed, each once."""
        for stage in stages:
            if stage.key in self._stages or not records.has(stage.key):
                continue
            self._stages.add(stage.key)
            record = records.record(stage.key)
            if from_earlier(record, self.state.started):
                self.add("cache_hits", stage=stage.name)
                self.add("saved_seconds", record.seconds, by="store")
                self.add("saved_gpu_seconds", record.seconds * resource.gpus, by="store")
            else:
                self.add("stages_run", stage=stage.name)
                self.add("stage_seconds", record.seconds, stage=stage.name)
                self.add("gpu_seconds", record.seconds * resource.gpus)

    def finished(self, trial: TrialPlan, records: Records, resource: Resource) -> None:
        """Count a finished trial's stages, and what its results would cost more if each had all it needs for itself.

        Of a trial found whole in the store, sharing was counted by the run that computed it.
        """
        self.stages(trial.stages(), records, resource)
        stored = {stage.key: records.record(stage.key) for stage in trial.stages() if records.has(stage.key)}
        if all(from_earlier(record, self.state.started) for record in stored.values()):
            return
        new = [variant for variant in trial.variants if variant.stages.labels.key not in self._shared]
        separate = sum(lineage_cost(variant.stages.all(), records, resource)[SECONDS] for variant in new)
        own = sum(record.seconds for key, record in stored.items() if key not in self._shared)
        self._shared |= stored.keys()
        self.add("saved_seconds", separate - own, by="sharing")
        self.add("saved_gpu_seconds", (separate - own) * resource.gpus, by="sharing")

    def send(self) -> str:
        """Begin to send, with what was counted so far; Ray must be there.

        Returns:
            Where the metrics are, or why nowhere, for people; empty where that was told before.
        """
        if self._told:
            return ""
        self._told = True
        port = _export_port()
        if port is None:
            return "metrics: not exported; with ray[default] installed Ray exports them to Prometheus"
        self.instruments = _instruments(self.state.name)
        for (name, labels), value in self.totals.items():
            self.instruments[name].inc(value, dict(labels))
        self.sample()
        return f"metrics: http://{port}/metrics"

    def sample(self, *, last: bool = False) -> None:
        """Set the gauges, every few seconds at most; to be called often, and once with ``last`` at the end."""
        if not self.instruments or (not last and self.clock() - self._sampled < SAMPLE_S):
            return
        self._sampled = self.clock()
        counts = {(kind, status): 0 for kind in ORDER for status in STATUSES}
        for task in self.state.tasks.values():
            counts[task.kind, task.status] = counts.get((task.kind, task.status), 0) + 1
        for (kind, status), number in counts.items():
            self.instruments["tasks"].set(number, {"kind": kind, "status": status})
        left = self.state.forecast().eta_s
        if left is not None:
            self.instruments["time_left_seconds"].set(left)
        self.instruments["tracking_events_waiting"].set(self.tracking_left())


def _instruments(sweep: str) -> dict[str, Any]:
    from ray.util.metrics import Counter, Gauge  # a sweep that finds everything done never imports Ray

    made = {}
    for name, metric in METRICS.items():
        kind = Gauge if metric.gauge else Counter
        made[name] = kind(PREFIX + name, metric.description, ("sweep", *metric.labels))
        made[name].set_default_tags({"sweep": sweep})
    return made


def _export_port() -> str | None:
    """``HOST:PORT`` where the driver's node exports metrics."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        if node["NodeID"] == here and node["MetricsExportPort"] > 0:
            return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    return None
