from __future__ import annotations

from orchestrator.preflight.node_table import Row, refused, render
from workers.checks.node import NodeFinding

FITS = Row("head 10.0.0.1 ab12cd", {"answers", "code", "data"})
FAILS = Row(
    "gpu-7 10.0.0.7 ef34ab",
    {"answers", "code", "gpu", "data"},
    [
        NodeFinding("gpu", "no NVIDIA driver"),
        NodeFinding("data", "[1] odd"),
        NodeFinding("code", "Python 3.11.2", hard=False),
    ],
)
IDLE = Row("login 10.0.0.9 9f9f9f", note="is not used")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_a_row_a_node_and_the_failures_in_words():
    text = render([FITS, FAILS, IDLE], "nodes")
    assert cells(text) == [
        ["head 10.0.0.1 ab12cd", "ok", "ok", "-", "ok"],
        ["gpu-7 10.0.0.7 ef34ab", "ok", "warns [3]", "FAILS [1]", "FAILS [2]"],
        ["login 10.0.0.9 9f9f9f", "-", "-", "-", "-"],
    ]
    assert text.splitlines()[-4:] == [
        "[1] gpu-7 10.0.0.7 ef34ab: no NVIDIA driver",
        "[2] gpu-7 10.0.0.7 ef34ab: [1] odd",
        "[3] warning: gpu-7 10.0.0.7 ef34ab: Python 3.11.2",
        "login 10.0.0.9 9f9f9f: is not used",
    ]


def test_only_hard_findings_refuse():
    assert refused([FITS, FAILS])
    assert not refused([FITS, IDLE])
    assert not refused([Row("a", findings=[NodeFinding("clock", "late", hard=False)])])
