"""A sweep is whole without a record, and the same with another one."""

from __future__ import annotations

import pytest
from event_files import curves_in_tensorboard

import sweeps

pytestmark = pytest.mark.integration


def test_none_keeps_no_record_and_tensorboard_each_curve_once(tmp_path, monkeypatch):
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().partition("segmentation:")[0].replace("[0.25, 0.35]", "[0.25]"))
    sweeps.changed(sweep, tracking="{name: none}")
    (tmp_path / "missing" / "mlflow").mkdir(parents=True)
    (tmp_path / "missing" / "mlflow" / "__init__.py").write_text("raise ImportError('not installed')")
    without = {**sweeps.environment(), "PYTHONPATH": f"{tmp_path}/missing:{sweeps.ROOT}"}
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "environment", lambda: without)
        said = sweeps.run(sweep)
    assert "browse:" not in said
    runs, place = tmp_path / "runs", tmp_path / "runs" / "small"
    assert (place / "report.html").is_file()
    assert len(sweeps.summary(tmp_path)["ranking"]) == 2
    assert not list(runs.glob("mlflow*"))
    assert not (place / "tracking").exists()
    results = sweeps.results(tmp_path)

    sweeps.changed(sweep, tracking="tensorboard")
    for _ in range(2):  # run again, it finds all done and all recorded
        said = sweeps.run(sweep)
        assert f"browse: tensorboard --logdir {place / 'tensorboard'}" in said
        curves = curves_in_tensorboard(place / "tensorboard")
        trials = {title: curve for title, curve in curves.items() if "train/classification_loss" in curve}
        ((title, curve),) = trials.items()
        assert "alpha_low 0.25" in title
        assert [step for step, _ in curve["train/classification_loss"]] == [1, 2, 3, 4, 5]
        assert sum("pseudo/miou" in curve for curve in curves.values()) == 3  # two variants; the trial has the better
    assert sweeps.results(tmp_path) == results
    assert not list(runs.glob("mlflow*"))
