"""Measure for ``gpu: auto``: from the warm-ups' records, a rehearsal on one GPU, and the nodes themselves."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aream.errors import AreamError
from orchestrator.cluster.connection import nodes
from orchestrator.cluster.gpu_share import GpuNode, Share, decide
from orchestrator.cluster.lost_workers import why
from orchestrator.cluster.resources import gpu_nodes
from orchestrator.cluster.stage_runner import stage_runner
from orchestrator.monitor.supervisor import TICK_S, Supervisor
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.workspace import Workspace
from workers.stage import GPU_PEAK

log = logging.getLogger(__name__)

ASK_S = 120.0
"""Seconds a node may take to report the memory of its GPUs; one whose GPUs are all taken does not answer."""
SLIVER = 0.001
"""Share of a GPU that is enough to be given access to it."""
REHEARSED = 4
"""Trials at most, of different methods."""


class GpuShareMeasurement:
    """Finds out how many trials share a GPU; the first trials of a sweep wait for it."""

    def __init__(
        self, planner: Planner, workspace: Workspace, supervisor: Supervisor, say: Callable[[str], None]
    ) -> None:
        self.workspace, self.supervisor, self.say = workspace, supervisor, say
        self.resource = planner.spec.resources.trial
        self.store = workspace.store()

    def share(self, trials: Sequence[TrialPlan]) -> Share | None:
        """Args:
            trials: that are still to run, or the ends of what a search may propose.

        Returns:
            None where the sweep ended, or a rehearsal failed: its trial will tell why.
        """
        heaviest = self._heaviest(trials)
        self.say(f"rehearsing {len(heaviest)} of {len(trials)} trials, to see how many share a GPU")
        found = [self._rehearsed(trial) for trial in heaviest]
        measured = [rehearsal for rehearsal in found if rehearsal is not None]
        if not measured or len(measured) < len(found):
            return None
        peaks = [peak for peak, _ in measured] + [self._warmup_peak(trial) for trial in trials]
        return decide(max(peaks), self._nodes(min(total for _, total in measured)), self.resource.cpu)

    def _heaviest(self, trials: Sequence[TrialPlan]) -> list[TrialPlan]:
        """The trial of each method that probably needs most GPU memory."""

        def weight(trial: TrialPlan) -> tuple[int, int]:
            train = trial.train.config.train
            return self._warmup_peak(trial), int(train.batch_size * train.image_size**2)

        chosen: dict[str, TrialPlan] = {}
        for trial in sorted(trials, key=weight, reverse=True):
            chosen.setdefault(trial.train.config.method.name, trial)
        return list(chosen.values())[:REHEARSED]

    def _warmup_peak(self, trial: TrialPlan) -> int:
        stage = trial.train.inputs.get("warmup")
        if stage is None or not self.store.has(stage.key):
            return 0
        return int(self.store.record(stage.key).metrics.get(GPU_PEAK, 0.0))

    def _rehearsed(self, trial: TrialPlan) -> tuple[int, int] | None:
        """The peak of a trial and the memory of the GPU it was measured on."""
        options = _rehearse.options(
            num_cpus=self.resource.cpu,
            num_gpus=1,
            resources=dict(self.resource.custom),
            name=f"rehearsal of {trial.key}",
        )
        task = options.remote(trial, self.workspace, self.resource.cpu)
        began, patience = time.monotonic(), self.supervisor.limits.stalled_minutes * 60
        while not ray.wait([task], timeout=TICK_S)[0]:
            self.supervisor.tick({trial.key: 1.0})
            if self.supervisor.is_over() or time.monotonic() - began > patience:
                ray.cancel(task, force=True)
                self.say("the rehearsal did not end; each trial gets a whole GPU")
                return None
        try:
            outcome = ray.get(task)
        except ray.exceptions.RayError as error:
            outcome = {"failure": why(error)}
        if "failure" in outcome:
            self.say(f"the rehearsal failed, each trial gets a whole GPU: {outcome['failure']}")
            return None
        return outcome["peak"], outcome["total"]

    def _nodes(self, measured_total: int) -> list[GpuNode]:
        """The nodes that trials may run on; one that does not answer is assumed to have GPUs like the rehearsal's."""
        candidates = gpu_nodes(self.resource, nodes())
        tasks: list[Any] = [
            _gpu_bytes.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote()
            for node in candidates
        ]
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=ASK_S)
        found = [
            GpuNode(node.resources.get("CPU", 0.0), node.resources["GPU"], self._answer(task) or measured_total)
            for node, task in zip(candidates, tasks, strict=True)
        ]
        return found or [GpuNode(self.resource.cpu, 1, measured_total)]  # the node left meanwhile

    def _answer(self, task: Any) -> int | None:
        if not ray.wait([task], timeout=0)[0]:
            ray.cancel(task, force=True)
            return None
        try:
            return int(ray.get(task))
        except ray.exceptions.RayError as error:
            log.warning("a node does not say how large its GPUs are: %s", error)
            return None


@ray.remote(max_retries=1, max_calls=1)
def _rehearse(trial: TrialPlan, workspace: Workspace, cpu: float) -> dict[str, Any]:
    """Measure a trial's peak GPU memory, in bytes, in a process of its own, so that all of it is freed afterwards."""
    import torch

    from workers.checks.rehearsal import peak_bytes
    from workers.processes.gpu_memory import CudaMemory

    if not torch.cuda.is_available():
        return {"failure": "Ray assigns GPUs here, but torch sees none"}
    cams = trial.variants[0].stages.cams.config
    memory = CudaMemory()
    with workspace.logged(f"rehearsal-{trial.key}"):
        try:
            runtime = stage_runner(workspace, cpu=cpu, gpu=1).runtime
            peak = peak_bytes(trial.train.config, cams, runtime, memory, trial.stages())
            return {"peak": peak, "total": memory.total()}
        except AreamError as error:
            return {"failure": str(error)}


@ray.remote(num_cpus=0, num_gpus=SLIVER, max_retries=0, max_calls=1)
def _gpu_bytes() -> int:
    """Memory of the node's smallest GPU, from a program that ends: a process keeps a context on each GPU it asked."""
    program = [sys.executable, "-m", "workers.processes.gpu_memory"]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return int(subprocess.run(program, capture_output=True, text=True, check=True, timeout=ASK_S, env=path).stdout)
