from __future__ import annotations

import copy
import json

import pytest
import sweep_results
from searching import ORDERED, RANGES

from orchestrator.plan.planner import Planner
from orchestrator.search.searchers import SearchedPoints
from orchestrator.spec.reader import load_spec


@pytest.fixture
def search(tmp_path):
    def search(axes=RANGES, *, where=ORDERED, folder="run", seeds=(0,), rest="", **options):
        path = tmp_path / "sweep.yaml"
        path.write_text(
            f"name: swept\nseeds: {list(seeds)}\nrank: {{metric: pseudo/miou}}\naxes: {axes}{where}{rest}"
            f"search: {json.dumps({'trials': 6, **options})}\n"
        )
        return SearchedPoints(Planner(load_spec(path), {}), tmp_path / folder)

    return search


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(content, folder) of what a sweep wrote."""
    return sweep_results.finished_grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture
def content(finished):
    return copy.deepcopy(finished[0])
