"""One actor a node that looks at it, each with the driver's own time-outs: Ray may not answer for minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.resources import Node, fits, requested
from orchestrator.preflight.node_table import Row
from orchestrator.preflight.prepare import Prepared
from workers.checks.node import NodeFinding, NodeProbe, differences, facts

ANSWERS = "answers"
"""Column of what every node is asked first."""
LOOK_S = 0.1
TAKE_S = 30.0
"""Longest that an answer which is there may take to be read."""
SAY_S = 30.0
"""Between lines about nodes that are waited for."""
CLOCK_LOOKS = 3
SKEW_S = 5.0
"""Clocks further apart are told about."""


@dataclass(frozen=True)
class Asked:
    """A node that some job of the sweep fits."""

    id: str
    row: Row
    gpus: float
    """GPUs that Ray was told of; 0 where the sweep asks for none there."""


def look_at_nodes(prepared: Prepared, probe: str, say: Callable[[str], None]) -> list[Row]:
    """A row for each node that is up.

    Args:
        probe: an object of the store that the driver has just written.
    """
    limits = prepared.spec.nodes
    rows, asked = _who_is_asked(prepared)
    visits = [_Visit(node, prepared, probe) for node in asked]
    try:
        _collect(visits, limits.answer_seconds, limits.answer_seconds, say)
        for visit in visits:
            visit.look_closer(limits.answer_seconds)
        _collect(visits, limits.answer_seconds, limits.read_minutes * 60, say)
    finally:
        for visit in visits:
            ray.kill(visit.actor)
    up = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    for node in asked:
        if node.id not in up:
            node.row.findings[:] = [NodeFinding(ANSWERS, "it left the cluster during the checks", hard=False)]
    return rows


def _who_is_asked(prepared: Prepared) -> tuple[list[Row], list[Asked]]:
    jobs = [requested(prepared.spec.resources.trial)]
    if prepared.spec.segmentation_data is not None:
        jobs.append(requested(prepared.spec.resources.segmentation))
    rows, asked = [], []
    for found in sorted((node for node in ray.nodes() if node["Alive"]), key=_name):
        node, row = Node(found["NodeID"], found["Resources"]), Row(_name(found))
        rows.append(row)
        fitting = [job for job in jobs if fits(job, node)]
        if fitting:
            wanted = any(job.get("GPU") for job in fitting) or prepared.spec.resources.trial.gpu == "auto"
            asked.append(Asked(node.id, row, node.resources.get("GPU", 0.0) if wanted else 0.0))
        else:
            row.note = "has too little for any job of the sweep, and is not used"
    return rows, asked


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} {node['NodeID'][:6]}"


class _Visit:
    """The checks under way on one node."""

    def __init__(self, node: Asked, prepared: Prepared, probe: str) -> None:
        self.node, self.prepared, self.object = node, prepared, probe
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote: Any = ray.remote(NodeProbe)
        self.actor: Any = remote.options(num_cpus=0, max_concurrency=8, scheduling_strategy=there).remote()
        self.pending: dict[Any, str] = {}
        """Answers to come -> their columns."""
        self.heard = time.monotonic()
        self.ping: Any = None
        self._ask(ANSWERS, self.actor.facts.remote())

    def look_closer(self, patience_s: float) -> None:
        """Ask all other questions, if the first was answered."""
        if any(finding.column == ANSWERS for finding in self.node.row.findings):
            return
        spec, workspace = self.prepared.spec, self.prepared.workspace
        self._look_at_clock(patience_s)
        self.heard, self.ping = time.monotonic(), None
        if self.node.gpus:
            self._ask("gpu", self.actor.gpu.remote(self.node.gpus))
        default = workspace.runs / "artifacts"
        self._ask("store", self.actor.store.remote(spec.store_uri, default, spec.store_endpoint, self.object))
        self._ask("disk", self.actor.disk.remote([workspace.folder / "logs", workspace.store().scratch]))
        for column in ("data", "weights"):
            expected = [(content, identity) for content, identity in self.prepared.contents if content.column == column]
            if expected:
                self._ask(column, self.actor.contents.remote(expected, self.prepared.reread))

    def collect(self, answer_s: float) -> None:
        """Take what has come; give up a node that says nothing at all."""
        done, _ = ray.wait(list(self.pending), num_returns=len(self.pending), timeout=0)
        for answer in done:
            self._end(self.pending.pop(answer), answer)
        if self.ping is not None and ray.wait([self.ping], timeout=0)[0]:
            self.ping = None
        if done or self.ping is None:
            self.heard = time.monotonic()
        if self.ping is None:
            self.ping = self.actor.now.remote()
        elif time.monotonic() - self.heard >= answer_s:
            self.give_up(f"silent for {answer_s:g} s")

    def give_up(self, words: str) -> None:
        asked = ", ".join(sorted({*self.pending.values()} - {ANSWERS}))
        self.node.row.findings.append(NodeFinding(ANSWERS, f"{words}{f', asked about {asked}' if asked else ''}"))
        self.pending.clear()

    def _ask(self, column: str, answer: Any) -> None:
        self.node.row.checked.add(column)
        self.pending[answer] = column

    def _end(self, column: str, answer: Any) -> None:
        try:
            found = ray.get(answer, timeout=TAKE_S)
        except ray.exceptions.RayError as error:
            last = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            self.node.row.findings.append(NodeFinding(column, f"the check itself ends with {last[:300]}"))
            return
        if column == ANSWERS:
            self.node.row.checked.add("code")
            found = differences(facts(), found)
        self.node.row.findings += found

    def _look_at_clock(self, patience_s: float) -> None:
        """The node's time against the middle between question and answer, at the quickest of a few looks."""
        looks = []
        for _ in range(CLOCK_LOOKS):
            before = time.time()
            try:
                there = ray.get(self.actor.now.remote(), timeout=patience_s)
            except ray.exceptions.RayError:  # the other questions tell
                return
            after = time.time()
            looks.append(((after - before) / 2, there - (before + after) / 2))
        self.node.row.checked.add("clock")
        unsure, ahead = min(looks)
        if abs(ahead) - unsure > SKEW_S:
            words = f"its clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the driver's"
            why = "times in its logs and records are off, and S3 refuses what is signed 15 min off; no result changes"
            self.node.row.findings.append(NodeFinding("clock", f"{words}: {why}", hard=False))


def _collect(visits: Sequence[_Visit], answer_s: float, limit_s: float, say: Callable[[str], None]) -> None:
    """Wait until every node has answered all, fell silent, or took longer than ``limit_s``."""
    began = said = time.monotonic()
    while waited := [visit for visit in visits if visit.pending]:
        for visit in waited:
            visit.collect(answer_s)
            if visit.pending and time.monotonic() - began >= limit_s:
                visit.give_up(f"not done after {limit_s:g} s")
        if time.monotonic() - said >= SAY_S:
            said = time.monotonic()
            names = ", ".join(f"{visit.node.row.name} ({', '.join(visit.pending.values())})" for visit in waited)
            say(f"waiting for what nodes find: {names}")
        time.sleep(LOOK_S)
