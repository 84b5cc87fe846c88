"""What can be looked at: the label sets of a sweep, also of one that is running."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aream.errors import AreamError, ArtifactNotFound
from orchestrator.monitor.state import is_over, read_state
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.text import shown_beside
from orchestrator.workspace import Workspace
from workers.artifacts.holds import held_keys
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore
from workers.stages import pseudo_label

LABELS = f"{pseudo_label.__name__.rpartition('.')[2]}-"


@dataclass(frozen=True)
class Configuration:
    """One label set: a configuration at one seed."""

    title: str
    rank: int | None
    """Place in the ranking, from 1; None for labels that the sweep's last results do not rank."""
    seed: int | None
    record: ArtifactRecord

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def layers(self) -> list[int]:
        """Whose mean affinity refines the CAM."""
        return [int(layer) for layer in self.record.config["layers"]]

    def to_json(self) -> dict[str, Any]:
        metrics = self.record.metrics
        return {
            "key": self.key,
            "title": self.title,
            "rank": self.rank,
            "seed": self.seed,
            "layers": self.layers,
            "threshold": metrics["pseudo/threshold"],
            "miou": metrics.get("pseudo/miou"),
        }


def configurations(workspace: Workspace, store: ArtifactStore) -> list[Configuration]:
    """Those of the ranking, best first, then all other labels of the sweep that are stored by now.

    Raises:
        AreamError: the sweep was never started, or its results cannot be read.
    """
    try:
        ranking = json.loads(workspace.summary_file.read_text(encoding="utf-8"))["ranking"]
    except FileNotFoundError:
        ranking = []
    except ValueError as error:
        raise AreamError(f"{workspace.summary_file}: cannot be read ({error}); run the sweep again") from error
    named = {key for entry in ranking for key in entry["label_artifacts"].values()}
    return [*_ranked(ranking, store), *_unranked(workspace, store, named)]


def running(workspace: Workspace) -> bool:
    """Whether more labels may come."""
    return not is_over(read_state(workspace.state_file)["phase"])


def _ranked(ranking: list[Mapping[str, Any]], store: ArtifactStore) -> Iterator[Configuration]:
    """Labels that several entries share are one; those that were deleted from the store are left out."""
    seen: set[str] = set()
    texts = shown_beside([entry["config"] for entry in ranking])
    for rank, (entry, shown) in enumerate(zip(ranking, texts, strict=True), start=1):
        title = ", ".join(f"{axis.rpartition('.')[2]} {text}" for axis, text in shown.items()) or "base"
        for seed, key in entry["label_artifacts"].items():
            record = None if key in seen else _record(store, key)
            seen.add(key)
            if record is not None:
                yield Configuration(title, rank, int(seed), record)


def _unranked(workspace: Workspace, store: ArtifactStore, named: Collection[str]) -> list[Configuration]:
    """Those that the ranking has not named: of a run that goes on, or without the metric that it ranks by."""
    titles = {task["key"]: task["title"] for task in read_state(workspace.state_file)["tasks"]}
    keys = held_keys(store.storage, sweep_id(workspace))
    found = []
    for key in sorted(key for key in keys if key.startswith(LABELS) and key not in named):
        record = _record(store, key)
        if record is not None:
            cams = _record(store, record.inputs[pseudo_label.TOGETHER_BY])
            parents = () if cams is None else cams.inputs.values()
            trained = next((titles[parent] for parent in parents if parent in titles), key)
            layers = record.config["layers"]
            found.append(Configuration(f"{trained}, layers {layers or 'none'}", None, None, record))
    return sorted(found, key=lambda one: -one.record.metrics.get("pseudo/miou", 0.0))


def _record(store: ArtifactStore, key: str) -> ArtifactRecord | None:
    try:
        return store.record(key)
    except ArtifactNotFound:
        return None
