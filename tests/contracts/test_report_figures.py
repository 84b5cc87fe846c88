"""What every figure of the report keeps to, new ones included."""

from __future__ import annotations

import csv

import pytest
from PIL import Image
from sweep_content import content

from aream import discover
from orchestrator.reporting import figures
from orchestrator.reporting.drawing import style
from orchestrator.reporting.figures.protocol import FigureInput
from workers.artifacts.opening import open_store

NAMES = discover.names(figures)


@pytest.fixture
def store(tmp_path):
    return open_store(None, tmp_path / "artifacts")


@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_no_figure(name, store, tmp_path):
    assert discover.load(figures, name).draw(FigureInput(content(0), store), tmp_path) == []
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 12])
def test_what_is_drawn_is_a_picture_with_a_caption(name, count, store, tmp_path):
    module = discover.load(figures, name)
    assert isinstance(module.PLACE, int)
    with style():
        drawn = module.draw(FigureInput(content(count), store), tmp_path)
    for path, caption in drawn:
        assert path.parent == tmp_path
        assert caption
        with Image.open(path) as picture:
            picture.verify()
        for kind in ("svg", "pdf"):
            assert path.with_suffix(f".{kind}").stat().st_size > 1000
        header, *rows = csv.reader(path.with_suffix(".csv").read_text().splitlines())
        assert rows
        assert {len(row) for row in rows} == {len(header)}
