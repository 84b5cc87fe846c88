"""A sweep from Python, without Ray: trials run in this process, and a sweep of stored trials only ranks them."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_sweep import write_sweep

from aream.datasets.shapes import CLASSES
from aream.errors import AreamError, ConfigError, DataError
from aream.metrics import IGNORE, class_iou, confusion_matrix, mean_iou
from orchestrator import api
from orchestrator.reporting.gallery import gallery
from orchestrator.reporting.panels import SIDE
from orchestrator.results.dataset import sweep_dataset
from workers.artifacts.opening import open_store


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_sweep(
        tmp_path_factory.mktemp("api"),
        train={"epochs": 2, "warmup_epochs": 1},
        axes={"method.alpha_low": [0.25, 0.35], "inference.layers": ["none", "all"]},
        analyses=["layer_gain"],
    )


@pytest.fixture(scope="module")
def spec(path):
    return api.load(path)


@pytest.fixture(scope="module")
def trials(spec):
    return {low: api.run_trial(spec, {"method.alpha_low": low}) for low in (0.25, 0.35)}


@pytest.fixture(scope="module")
def found(spec, trials):
    return api.run(spec)


def test_keys_are_overridden_with_dots_or_underscores(path):
    spec = api.load(path, {"train.epochs": 4}, train__lr=1e-5, seeds=[3, 4])
    assert (spec.base.train.epochs, spec.base.train.lr, spec.seeds) == (4, 1e-5, (3, 4))


def test_values_of_a_notebook_are_what_a_file_holds(path, tmp_path):
    spec = api.load(path, runs=tmp_path / "é 🦊", axes={"inference.layers": ("none",)})
    assert spec.runs_dir == tmp_path / "é 🦊"
    with pytest.raises(ConfigError, match=r"train.lr: given array\(.*\); need what a sweep file holds"):
        api.load(path, train__lr=np.ones(1))


@pytest.mark.slow
def test_a_trial_gives_a_row_a_variant(trials):
    table = trials[0.25]
    assert list(table["inference.layers"]) == ["none", "all"]
    assert set(table["method.alpha_low"]) == {"0.25"}
    assert table["cam/miou"].nunique() == 1  # one training
    assert np.isfinite(table[["pseudo/miou", "val/map", "layer/00/miou"]]).all(axis=None)


@pytest.mark.slow
def test_a_plan_tells_what_is_stored(spec, trials):
    table = api.plan(spec).table()
    assert set(table["stage"]) == {"warmup", "train_cam", "infer_cam", "pseudo_label", "layer_gain"}
    assert table["stored"].all()
    assert all(key in table.index for keys in table["inputs"] for key in keys)


@pytest.mark.slow
def test_a_sweep_of_stored_trials_ranks_them_without_ray(found, trials):
    table = found.table()
    assert list(table.index) == [1, 2, 3, 4]
    assert table["pseudo/miou"].is_monotonic_decreasing
    best = trials[float(table["method.alpha_low"][1])].set_index("inference.layers")
    assert table["pseudo/miou"][1] == best["pseudo/miou"][table["inference.layers"][1]]
    assert found.failures == {}
    assert len(found.table(per_seed=True)) == 4


@pytest.mark.slow
def test_an_earlier_run_is_found_by_name_and_by_file(path, found):
    for given, runs in (("small", path.parent / "runs"), (path, "elsewhere")):
        assert api.results(given, runs).table().equals(found.table())


def test_labels_give_the_miou_of_the_table(found):
    """Recounted from the arrays."""
    total = np.zeros((7, 7), dtype=np.int64)
    ids = []
    for image_id, labels in found.labels(rank=2):
        ids.append(image_id)
        total += confusion_matrix(labels, found.image(image_id, rank=2).truth, 7)
    assert ids == [f"train_{index:05d}" for index in range(10)]
    assert mean_iou(total) == pytest.approx(found.table()["pseudo/miou"][2], abs=1e-9)


def test_an_image_has_what_was_made_of_it(found):
    one = found.image("train_00003")
    assert one.image.size == (32, 32)
    assert one.labels.shape == one.truth.shape == (32, 32)
    seen = [CLASSES[index - 1] for index in np.unique(one.truth) if 0 < index < IGNORE]
    assert list(one.cam) == seen
    assert all(cam.min() >= 0 and cam.max() <= 1 for cam in one.cam.values())


def test_curves_and_histories_are_frames(found):
    curve, history = found.curve(), found.history()
    assert list(curve.index) == [0, 1, 2]
    assert curve["miou"].tolist() == [found.table()[f"layer/{layer:02d}/miou"][1] for layer in range(3)]
    assert len(history) == 2
    assert "val/map" in history


def test_a_stage_is_run_on_stored_inputs_and_leaves_the_store_alone(spec, found, tmp_path):
    key = found.content["ranking"][0]["label_artifact"]
    before = found.store.record(key)
    metrics = api.run_stage(spec, key, tmp_path / "out")
    assert {name: metrics[name] for name in before.metrics} == before.metrics
    made = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert made == sorted(path.name for path in (found.store.get(key) / "labels").iterdir())
    assert found.store.record(key) == before


def test_what_cannot_be_is_told_in_one_error(spec, found, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    key = found.content["ranking"][0]["label_artifact"]
    for call, kind, words in (
        (lambda: api.run_trial(spec, {"method.alpha": 0.2}), ConfigError, "no training axis 'method.alpha'"),
        (lambda: api.run_trial(spec, {"method.alpha_low": 0.9}), ConfigError, "alpha"),
        (lambda: api.run_stage(spec, "train_cam-0", tmp_path), ConfigError, "no stage 'train_cam-0'"),
        (lambda: api.run_stage(spec, key, tmp_path / "full"), ConfigError, "is not empty"),
        (lambda: found.labels(rank=0), ConfigError, "need 1..4, got 0"),
        (lambda: found.labels(seed=7), ConfigError, "need one of 0, got 7"),
        (lambda: found.image("train_99999"), DataError, "no train image"),
        (lambda: found.curve(analysis="entropy"), ConfigError, "it has: layer_gain"),
        (lambda: api.results("other", found.workspace.runs), AreamError, "no sweep 'other'"),
    ):
        with pytest.raises(kind, match=re.escape(words)):
            call()


def test_a_sweep_without_results_says_so(path, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text().replace("name: small", "name: other"))
    with pytest.raises(AreamError, match="no results yet"):
        api.results(other)


def test_importing_the_science_is_light():
    """``import aream`` brings neither Ray nor MLflow."""
    program = (
        "import aream, sys, json; print(json.dumps([m for m in ('ray', 'mlflow', 'orchestrator') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_the_report_shows_images_with_the_iou_of_their_labels(found):
    dataset = sweep_dataset(found.workspace.folder)
    made = gallery(found.content, found.store, dataset)
    assert {example.title.split(": ")[1] for example in made.examples} >= {"highest IoU", "lowest IoU"}
    labels = dict(found.labels(1))
    for example in made.examples:
        image_id = example.title.split(":")[0]
        scores = class_iou(confusion_matrix(labels[image_id], dataset.mask(image_id), len(dataset.class_names) + 1))
        assert example.ious[0].startswith("#1: IoU background ")
        assert example.ious[0].endswith(f"mean {100 * np.nanmean(scores):.0f} %")
        captions = [panel.caption for panel in example.panels]
        assert captions[:2] == ["image", "ground truth"]
        assert any("pseudo-label" in caption for caption in captions)
        for panel in example.panels:
            with Image.open(io.BytesIO(base64.b64decode(panel.source.partition(",")[2]))) as picture:
                assert min(picture.size) >= SIDE
    assert len(made.legend) >= 2
    assert made.examples[0].title in (found.workspace.folder / "report.html").read_text()


@pytest.mark.slow
def test_no_images_without_a_dataset_or_labels(found, tmp_path):
    assert gallery(found.content, found.store, None) is None
    assert gallery({**found.content, "ranking": []}, found.store, sweep_dataset(found.workspace.folder)) is None
    assert gallery(found.content, open_store(None, tmp_path / "empty"), sweep_dataset(found.workspace.folder)) is None
