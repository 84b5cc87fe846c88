"""The ranking on terminals of any width."""

from __future__ import annotations

import pytest
from rich.console import Console

from orchestrator.reporting.terminal import ranked_table

METRICS = ("val/map", "cam/miou", "pseudo/miou", "seg/miou")
CONTENT = {
    "name": "s",
    "rank": {"metric": "pseudo/miou"},
    "axes": ["method", "method.alpha_low", "method.alpha_high", "inference.layers"],
    "ranking": [
        {
            "config": {
                "method": "mean_affinity", "method.alpha_low": 0.25, "method.alpha_high": 0.55,
                "inference.layers": "shallow",
            },
            "metrics": dict.fromkeys(METRICS, 0.5 + 0.0625 * position),
            "spread": dict.fromkeys(METRICS, 0.0125),
        }
        for position in range(2)
    ],
}  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_rank_axes_and_the_metric_that_it_is_by_are_read_on_any_terminal(width):
    console = Console(width=width, highlight=False, force_terminal=False)
    with console.capture() as captured:
        console.print(ranked_table(CONTENT))
    text = captured.get()
    assert all(len(line) <= width for line in text.splitlines())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    ranked = [row for row in rows if row[0]]
    assert [row[0] for row in ranked] == ["1", "2"]
    assert [("0.5000 ± 0.0125" in row, "0.5625 ± 0.0125" in row) for row in ranked] == [(True, False), (False, True)]
    if width >= 80:
        assert all(row[1:5] == ["mean_affinity", "0.25", "0.55", "shallow"] for row in ranked)
    if width < 140:
        assert "no room for val/map" in text
        assert "pseudo/miou" not in text.partition("no room for")[2]
    else:
        assert len(ranked[0]) == 1 + 4 + len(METRICS)
