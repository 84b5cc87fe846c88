"""Trained weights out of a store, and on images that nobody labelled: what comes out is what the sweep made."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from small_folder import NAMES, config, names_csv, write_folder
from small_trials import TRIAL, fingerprint

from aream.config import Component
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmenters import deeplab
from orchestrator import artifacts, evaluate, infer
from workers.artifacts.opening import open_store
from workers.files.labels import read_labels
from workers.pipelines import segmentation_stage, variant_stages
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner
from workers.stages import infer_cam
from workers.trial import SegmentationConfig

pytestmark = pytest.mark.slow
SEGMENTATION = SegmentationConfig(
    model=Component(
        name="deeplab",
        config=deeplab.Config(encoder="resnet10t", output_stride=None, level=1, rates=(1,), channels=8),
    ),
    train=SegmentationTraining(epochs=1, batch_size=4, lr=0.01, crop=32),
    evaluate=SegmentationEvaluation(scales=(1.0,), flip=False),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """One trial on a folder, with a segmenter, and the summary that a sweep of it leaves."""
    folder = tmp_path_factory.mktemp("swept")
    names_csv(folder / "own/labels.csv", write_folder(folder / "own"))
    trial = trial_of(folder)
    runner = StageRunner(open_store(None, folder / "runs/artifacts"), Runtime())
    labels = variant_stages(trial, fingerprint).labels
    segmenter = segmentation_stage(SEGMENTATION, trial, labels, fingerprint)
    measured = {stage.key: runner.run(stage).metrics for stage in (labels, segmenter)}
    job = {"key": segmenter.key, "label_artifact": labels.key, "metrics": measured[segmenter.key]}
    content = {"ranking": [{"label_artifact": labels.key}], "data": {"classes": list(NAMES)}, "segmentation": [job]}
    (folder / "runs/mine").mkdir()
    (folder / "runs/mine/summary.json").write_text(json.dumps(content))
    (folder / "mine.yaml").write_text(
        f"name: mine\nruns: {folder}/runs\ndata: {{name: folder, root: {folder}/own, images: images, masks: masks, "
        "classes: classes.txt, labels: labels.csv, split: {val: 0.4}}\n"
    )
    for what in ("weights", "cams", "segmenter", "labels"):
        place = [str(folder / what), "--what", what, "--sweep", str(folder / "mine.yaml")]
        assert artifacts.main(["export", "best", *place]) == 0
    return folder, measured[segmenter.key]


def trial_of(folder):
    data = Component(name="folder", config=config(folder / "own", "labels.csv"))
    return dataclasses.replace(TRIAL, data=data)


def found(folder, what, out, *more: str, images="own/images"):
    model = str(folder / what / "model.safetensors")
    assert infer.main(["--weights", model, "--images", str(folder / images), "--out", str(out), *more]) == 0
    return out


def test_a_host_makes_the_maps_and_labels_that_it_made_in_the_sweep(swept, tmp_path):
    """Maps of a class do not depend on which others are taken to be there; stored ones are rounded, these are not."""
    folder, _ = swept
    stages = variant_stages(trial_of(folder), fingerprint)
    runner = StageRunner(open_store(None, folder / "runs/artifacts"), Runtime())
    inputs = {name: runner.store.get(stage.key) for name, stage in stages.cams.inputs.items()}
    made = {cams.image_id: cams for cams in infer_cam.cams_of(stages.cams.config, inputs, "train", Runtime())[1]}
    out = found(folder, "weights", tmp_path / "out", "--presence", "0.0001", "--threshold", "0.4")
    known = sorted((folder / "cams").iterdir())
    assert known
    for path in known:
        cams, here = made[path.stem], np.load(out / "cams" / path.name, allow_pickle=True).item()
        assert set(here) == {0, 1, 2}
        assert set(np.load(path, allow_pickle=True).item()) == set(cams.classes)
        for key, cam in zip(cams.classes, cams.combine(stages.labels.config.layers), strict=True):
            np.testing.assert_allclose(here[key], cam, atol=1e-4)
        maps = np.stack([here[key] for key in range(3)])
        expected = np.where(maps.max(axis=0) > np.float32(0.4), maps.argmax(axis=0) + 1, 0)
        np.testing.assert_array_equal(read_labels(out / "labels" / f"{path.stem}.png"), expected)
        assert (out / "overlays" / f"{path.stem}.png").is_file()
    with (out / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[0].keys() == {"id", "image", *NAMES}
    assert {row["image"] for row in rows} == {path.name for path in (folder / "own/images").iterdir()}


def test_only_classes_that_seem_to_be_there_have_maps(swept, tmp_path):
    folder, _ = swept
    presence = 0.5
    out = found(folder, "weights", tmp_path / "out")
    with (out / "images.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            here = {k for k, name in enumerate(NAMES) if float(row[name]) > presence}
            close = {k for k, name in enumerate(NAMES) if abs(float(row[name]) - presence) < 1e-4}
            maps = np.load(out / "cams" / f"{row['id']}.npy", allow_pickle=True).item()
            assert here - close <= set(maps) <= here | close


def test_a_segmenter_predicts_what_it_was_scored_on(swept, tmp_path, capsys):
    folder, metrics = swept
    out = found(folder, "segmenter", tmp_path / "out")
    arguments = [str(out / "labels"), "--data", str(folder / "mine.yaml"), "--split", "val", "--json"]
    capsys.readouterr()
    assert evaluate.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == metrics["seg/miou"]


def test_labels_that_were_exported_score_as_in_the_sweep(swept, capsys):
    folder, _ = swept
    store = open_store(None, folder / "runs/artifacts")
    key = json.loads((folder / "runs/mine/summary.json").read_text())["ranking"][0]["label_artifact"]
    capsys.readouterr()
    place = str(folder / "labels/SegmentationClassAug")
    assert evaluate.main([place, "--data", str(folder / "mine.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == store.record(key).metrics["pseudo/miou"]
    assert evaluate.main([str(folder / "cams"), "--data", str(folder / "mine.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == pytest.approx(store.record(key).metrics["pseudo/miou"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--weights", "{}/own", "--images", "{}/own/images"), "own/model.json: no such file"),
        (("--weights", "{}/none.pth", "--images", "{}/own/images"), "none.pth: no such file or folder"),
        (("--weights", "{}/weights", "--images", "{}/nowhere"), "nowhere: no such folder"),
        (("--weights", "{}/weights", "--images", "{}/cams"), "no image for data.images"),
        (
            ("--weights", "{}/weights", "--images", "{}/own/images", "--presence", "1"),
            "--presence: need a number in (0, 1)",
        ),
        (
            ("--weights", "{}/segmenter", "--images", "{}/own/images", "--threshold", "0.4"),
            "--threshold: is about a host's CAMs",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(swept, tmp_path, capsys, arguments, words):
    folder, _ = swept
    given = [text.replace("{}", str(folder)) for text in arguments]
    assert infer.main([*given, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_a_model_file_are_checked(swept, tmp_path, capsys):
    folder, _ = swept
    model = json.loads((folder / "weights/model.json").read_text())
    model["cams"]["scales"] = [-1]
    (tmp_path / "model.json").write_text(json.dumps(model))
    (tmp_path / "model.safetensors").write_bytes((folder / "weights/model.safetensors").read_bytes())
    place = ["--weights", str(tmp_path), "--images", str(folder / "own/images"), "--out", str(tmp_path / "out")]
    assert infer.main(place) == 2
    assert "cams.scales" in capsys.readouterr().err


def test_exports_that_cannot_be_are_refused(swept, tmp_path, capsys):
    folder, _ = swept
    store = ["--store", str(folder / "runs/artifacts")]
    sweep = ["--sweep", str(folder / "mine.yaml")]
    out = str(tmp_path / "out")
    for arguments, words in (
        (["export", "best", out, *store], "best is part of a sweep's results"),
        (["export", "pseudo_label", out, "--what", "weights", *store], "--what weights: the names of the classes"),
        (["export", "infer_cam", out, "--what", "cams", *sweep], "is of the stage infer_cam; need a pseudo_label"),
        (["export", "train_seg", out, "--what", "segmenter", *sweep], "none was trained on train_seg-"),
    ):
        assert artifacts.main(arguments) == 2, arguments
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
