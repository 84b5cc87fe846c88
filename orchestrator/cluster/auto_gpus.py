"""``gpu: auto`` of a sweep, decided once its cluster is there; a number in the file stays what it is.

A decision is kept in the sweep's folder: a later run that starts nothing still knows what things cost.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from orchestrator.cluster.resources import whole_gpus
from orchestrator.monitor.progress import ProgressDisplay
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.spec.settings import Resource
from orchestrator.spec.spec import SweepSpec
from orchestrator.workspace import Workspace
from workers.processes.atomic_write import StateFile, write_json

NOTHING_RAN = "nothing has run yet"
NO_GPU = "the cluster has no GPU"


class AutoGpus:
    """Jobs are ``trial`` and ``segmentation``."""

    def __init__(
        self, workspace: Workspace, supervisor: Supervisor, progress: ProgressDisplay, start_ray: Callable[[], object]
    ) -> None:
        self.workspace, self.supervisor, self.progress, self.start_ray = workspace, supervisor, progress, start_ray
        self.path = _decisions_file(workspace)
        self.why: dict[str, str] = {}
        """Job -> the reason, where the file leaves it open."""

    def check(self, spec: SweepSpec) -> None:
        """Check that earlier decisions can be read, before anything runs.

        Raises:
            DamagedFile: they cannot, and GPU seconds of what ran with them would be a guess.
        """
        if "auto" in (spec.resources.trial.gpu, spec.resources.segmentation.gpu):
            self._read()

    def whole(self, spec: SweepSpec, job: str) -> Resource:
        """The resources of a job before its memory is measured.

        Raises:
            ConfigError: more processes than GPUs on any node.
        """
        resource = _resource(spec, job)
        if resource.gpu != "auto":
            return resource
        self.start_ray()
        from orchestrator.cluster import connection  # needs ray

        return whole_gpus(job, resource, connection.nodes(), autoscales=connection.autoscales(spec))

    def agreeing(self, planner: Planner, job: str) -> Planner:
        """The planner with the kind of device that the cluster gives to a job, which is part of its stages' keys.

        Raises:
            ConfigError: more processes than GPUs on any node.
        """
        if _resource(planner.spec, job).gpu != "auto" or self.supervisor.is_over():
            return planner
        if (self.whole(planner.spec, job).gpus > 0) == (job in planner.auto_gpu):
            return planner
        return dataclasses.replace(planner, auto_gpu=planner.auto_gpu ^ {job})

    def for_trials(self, planner: Planner, trials: Sequence[TrialPlan]) -> SweepSpec:
        """The specification with the GPU share of a trial in it; measures one where GPUs can be shared.

        Args:
            trials: that are still to run, or the ends of what a search may propose.

        Raises:
            ConfigError: more processes than GPUs on any node.
        """
        if planner.spec.resources.trial.gpu != "auto" or self.supervisor.is_over():
            return planner.spec
        gpus = self.whole(planner.spec, "trial").gpus
        if gpus != 1:
            why = f"one for each of {gpus:g} processes" if gpus else NO_GPU
            return self._settle(planner.spec, "trial", gpus, why)
        from orchestrator.cluster.gpu_measurement import GpuShareMeasurement

        self.progress.phase("measuring what a trial needs of a GPU")
        share = GpuShareMeasurement(planner, self.workspace, self.supervisor, self.progress.line).share(trials)
        if share is None:
            return self._settle(planner.spec, "trial", 1.0, "a whole GPU each, as nothing could be measured")
        return self._settle(planner.spec, "trial", share.gpu, share.why)

    def for_segmentation(self, spec: SweepSpec, pending: Sequence[object]) -> SweepSpec:
        """The specification with a whole GPU for a segmentation job, where the cluster has one.

        Args:
            pending: jobs that are still to run; without any, what was decided before holds.
        """
        if spec.resources.segmentation.gpu != "auto" or not pending or self.supervisor.is_over():
            return self.remembered(spec, "segmentation")
        gpus = self.whole(spec, "segmentation").gpus
        return self._settle(spec, "segmentation", gpus, "a whole GPU each" if gpus else NO_GPU)

    def remembered(self, spec: SweepSpec, job: str) -> SweepSpec:
        """The specification with the last decision about a job in it; no GPU where there was none."""
        if _resource(spec, job).gpu != "auto":
            return spec
        decision = self._read().get(job, {"gpu": 0.0, "why": NOTHING_RAN})
        self.why[job] = str(decision["why"])
        changed: dict[str, Any] = {job: dataclasses.replace(_resource(spec, job), gpu=float(decision["gpu"]))}
        return dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, **changed))

    def _settle(self, spec: SweepSpec, job: str, gpu: float, why: str) -> SweepSpec:
        if not self.supervisor.is_over():
            write_json(self.path, {**self._read(), job: {"gpu": gpu, "why": why}})
            self.progress.line(f"resources.{job}.gpu: auto is {gpu:g}: {why}")
        return self.remembered(spec, job)

    def _read(self) -> dict[str, dict[str, str | float]]:
        return _read(self.path)


def expected(workspace: Workspace, spec: SweepSpec) -> frozenset[str]:
    """Jobs that will get a GPU though their file says ``auto``: as the last run decided, else as this machine has one.

    Raises:
        DamagedFile: earlier decisions cannot be read.
    """
    open_jobs = [job for job in ("trial", "segmentation") if _resource(spec, job).gpu == "auto"]
    decided = _read(_decisions_file(workspace)) if open_jobs else {}
    here = bool(open_jobs) and torch.cuda.is_available()
    return frozenset(job for job in open_jobs if (float(decided[job]["gpu"]) > 0 if job in decided else here))


def _decisions_file(workspace: Workspace) -> Path:
    return workspace.folder / "gpus.json"


def _read(path: Path) -> dict[str, dict[str, str | float]]:
    holds = "how many GPUs `gpu: auto` was decided to be"
    return StateFile(path, holds, "delete it; what still has to run decides it anew", _parse).read() or {}


def _parse(content: bytes) -> dict[str, dict[str, str | float]]:
    decisions = json.loads(content)
    return {
        str(job): {"gpu": float(decision["gpu"]), "why": str(decision["why"])} for job, decision in decisions.items()
    }


def _resource(spec: SweepSpec, job: str) -> Resource:
    resource: Resource = getattr(spec.resources, job)
    return resource
