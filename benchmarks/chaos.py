"""Sweeps under kills: every round of ``tests/integration/test_chaos.py`` and the node that falls silent.

    python -m benchmarks.chaos

Writes ``benchmarks/results/chaos.json``, what was killed in each round with it; exit status 1 where a round fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS
from benchmarks.sides import ROOT

TEST = "tests/integration/test_chaos.py"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "slow",
            TEST,
            "-s",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={report}",
        ]
        code = subprocess.run(command, cwd=ROOT).returncode
        rounds = [_round(case) for case in ElementTree.parse(report).iter("testcase")]
    RESULTS.joinpath("chaos.json").write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    return code


def _round(case: ElementTree.Element) -> dict[str, Any]:
    """What came of a test, without the undisturbed sweep it is compared with."""
    properties = {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
    told = {one.tag for one in case} & {"failure", "error", "skipped"}
    return {
        "test": case.attrib["name"],
        "outcome": min(told, default="passed"),
        "minutes": round(float(properties.get("minutes", float(case.attrib["time"]) / 60)), 1),
        "killed": dict(
            Counter(victim for victim in json.loads(properties.get("killed", "[]")) if victim != "no worker")
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
