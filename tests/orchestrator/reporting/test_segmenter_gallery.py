"""The val images of a segmenter in a report."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import sweep_results
from PIL import Image

from aream.metrics import class_iou, confusion_matrix
from orchestrator.reporting.panels import SIDE
from orchestrator.reporting.segmenter_gallery import segmenter_gallery
from orchestrator.results.segmentation_jobs import segmentation_jobs
from workers.artifacts.opening import open_store
from workers.components import build_dataset
from workers.files.labels import write_labels


@pytest.fixture
def sweep(tmp_path):
    """(Summary, store, dataset): at seed 1, the better one, the first image is predicted as its mask and all others as
    background; at seed 0 all of them are."""
    plan = sweep_results.planner(tmp_path, more="segmentation: {select: {top: 1}}")
    store, dataset = sweep_results.workspace(plan).store(), build_dataset(plan.spec.base.data)
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    classes = len(dataset.class_names) + 1

    def predict(right):
        def write(folder):
            (folder / "predictions").mkdir()
            found = {}
            for number, one in enumerate(dataset.ids("val")):
                mask = dataset.mask(one)
                predicted = np.where(mask == 255, 0, mask) if number < right else np.zeros_like(mask)
                write_labels(folder / "predictions" / f"{one}.png", predicted.astype(np.uint8))
                row = class_iou(confusion_matrix(predicted, mask, classes))
                found[one] = [None if np.isnan(value) else value for value in row]
            (folder / "images.json").write_text(json.dumps(found))

        return write

    for job in segmentation_jobs(plan, sweep_results.ranked(plan, store)):
        miou = {"seg/miou": 0.6 + 0.1 * job.seed}
        sweep_results.put(store, job.stage, 1.0, "2026-01-02T00:00:00+00:00", predict(job.seed), **miou)
    content, _ = sweep_results.summarised(plan)
    return content, store, dataset


def test_images_of_the_best_segmenter_with_their_iou(sweep):
    content, store, dataset = sweep
    made = segmenter_gallery(content, store, dataset)
    right, wrong = dataset.ids("val")
    assert [example.title for example in made.examples] == [f"{right}: highest IoU", f"{wrong}: highest IoU"]
    assert made.examples[0].ious[0].endswith("mean 100 %")
    assert not made.examples[1].ious[0].endswith("mean 100 %")
    assert "seed=1" in made.note
    misses = []
    for example in made.examples:
        assert [panel.caption for panel in example.panels] == ["image", "ground truth", "segmenter"]
        pictures = []
        for panel in example.panels:
            with Image.open(io.BytesIO(base64.b64decode(panel.source.partition(",")[2]))) as picture:
                assert min(picture.size) >= SIDE
                pictures.append(np.asarray(picture, dtype=float))
        misses.append(abs(pictures[1] - pictures[2]).mean())
    assert misses[0] < misses[1]  # ignored pixels are white in the ground truth alone
    assert {name for _, name in made.legend} >= {"background"}


def test_there_are_none_without_masks_predictions_or_a_segmenter(sweep, tmp_path):
    content, store, dataset = sweep
    assert segmenter_gallery(content, store, None) is None
    assert segmenter_gallery({**content, "segmentation": []}, store, dataset) is None
    assert segmenter_gallery(content, open_store(None, tmp_path / "empty"), dataset) is None
    failed = [{**job, "metrics": {}} for job in content["segmentation"]]
    assert segmenter_gallery({**content, "segmentation": failed}, store, dataset) is None
