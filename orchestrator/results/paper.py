"""A paper's numbers beside ours: what a sweep file says was published, and what the sweep found there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aream.config import plain
from orchestrator.results.shared_seeds import seeds_of
from orchestrator.spec.paper import PaperRow, fits

if TYPE_CHECKING:
    from orchestrator.spec.spec import SweepSpec

ROUNDING = 1e-9


def compared(spec: SweepSpec, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Pair each row, for the summary, with the ranked entry (best first) it is about; None where there is none yet."""
    if spec.paper is None:
        return None
    rows = []
    for row in spec.paper.rows:
        found = next(
            (
                (position, entry)
                for position, entry in enumerate(entries)
                if row.metric in entry["metrics"] and fits(spec, row, entry["config"])
            ),
            None,
        )
        rows.append({**_published(row, spec.paper.source), **_ours(row, found)})
    return {"source": spec.paper.source, "rows": rows, "context": plain(spec.paper.context)}


def _published(row: PaperRow, source: str) -> dict[str, Any]:
    return {
        "where": plain(row.where),
        "metric": row.metric,
        "paper": row.value,
        "tolerance": row.tolerance,
        "source": row.source or source,
    }


def _ours(row: PaperRow, found: tuple[int, Mapping[str, Any]] | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(("rank", "ours", "spread", "seeds", "difference", "within"))
    position, entry = found
    ours = entry["metrics"][row.metric]
    return {
        "rank": position,
        "ours": ours,
        "spread": entry["spread"].get(row.metric),
        "seeds": len(seeds_of(entry, row.metric)),
        "difference": ours - row.value,
        "within": abs(ours - row.value) <= row.tolerance + ROUNDING,
    }
