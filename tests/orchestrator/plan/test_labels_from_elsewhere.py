"""A sweep of segmenters on labels made elsewhere has no use for a host."""

from __future__ import annotations

import numpy as np
import pytest
from sweep_results import planner

from orchestrator.preflight.prepare import trial_configs
from orchestrator.results.segmentation_jobs import segmentation_jobs
from orchestrator.spec.data_use import trains_hosts, use_of
from workers.components import build_dataset
from workers.files.labels import write_labels

LABELS = "segmentation={labels: made, model: {name: deeplab}}"


@pytest.mark.parametrize(
    ("overrides", "trained"),
    [
        (("axes={}", LABELS), False),
        (("axes={}", "segmentation={model: {name: deeplab}}"), True),
        (("axes={}", "segmentation=null"), True),
        (("axes={method.alpha_low: [0.2, 0.3]}", "where=[]", LABELS), True),
        (("axes={inference.layers: [all, none]}", LABELS), True),
        (("axes={}", "analyses=[layer_gain]", LABELS), True),
    ],
)
def test_a_host_is_trained_where_something_asks_about_it(tmp_path, overrides, trained):
    plan = planner(tmp_path, *overrides)
    assert trains_hosts(plan.spec) == trained
    assert bool(plan.grid()) == bool(trial_configs(plan.spec)) == trained
    use = use_of(plan.spec)
    assert bool(use.searched) == trained
    assert use.scored == (() if "segmentation=null" in overrides else ("segmentation",))


def test_segmenters_of_several_settings_are_told_apart(tmp_path):
    plan = planner(tmp_path, "axes={}", f"segmentation={{labels: {tmp_path}, axes: {{train.epochs: [1, 2]}}}}")
    for image_id in build_dataset(plan.spec.base.data).ids("train"):
        write_labels(tmp_path / f"{image_id}.png", np.zeros((32, 32), dtype=np.uint8))
    titles = [job.title for job in segmentation_jobs(plan, [])]
    assert len(set(titles)) == len(titles) == 2 * len(plan.spec.seeds)
