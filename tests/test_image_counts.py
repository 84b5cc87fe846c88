"""The command that counts what images cost: every step runs, and growth is told from the images' own."""

from __future__ import annotations

import json

import pytest

from benchmarks import image_counts
from benchmarks.image_counts import STEPS, worse_than_linear


def point(images: int, seconds: float, megabytes: float) -> dict:
    return {"images": images, **{step: {"cpu_s": seconds, "mb": megabytes} for step in STEPS}}


def test_what_grows_as_the_images_do_is_fine():
    assert worse_than_linear([point(100, 5.0, 40.0), point(1_000, 50.0, 400.0)]) == []
    assert worse_than_linear([point(100, 0.001, 0.0), point(1_000, 0.9, 15.0)]) == []  # of no weight


@pytest.mark.parametrize(("seconds", "megabytes", "figure"), [(100.0, 40.0, "cpu_s"), (50.0, 800.0, "mb")])
def test_what_grows_faster_is_told(seconds, megabytes, figure):
    said = worse_than_linear([point(100, 5.0, 40.0), point(1_000, seconds, megabytes)])
    assert [sentence.split(":")[0] for sentence in said] == list(STEPS)
    assert all(figure in sentence for sentence in said)


@pytest.mark.slow
def test_every_step_runs(tmp_path):
    status = image_counts.main(["--counts", "3,5"], tmp_path)
    kept = json.loads((tmp_path / "image_counts.json").read_text())
    assert [row["images"] for row in kept["points"]] == [3, 5]
    assert all(row[step]["cpu_s"] > 0 for row in kept["points"] for step in STEPS)
    assert status == (1 if kept["worse"] else 0)
