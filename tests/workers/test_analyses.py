"""Analyses as stages: found by their names, one pass over the images, figures as data."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_trials import DATA, TRIAL, Work, fingerprint

from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import resized
from aream.errors import ConfigError, DataError, StageFailed
from aream.images import to_tensor
from aream.infer import infer_cams
from aream.labels.pseudo_labels import LabelsConfig
from aream.methods import more
from aream.methods.aream import layer_entropies
from aream.segmentation.config import SegmentationEvaluation
from workers import analysis, metric
from workers.components import build_backbone, build_dataset, load_weights, trained_host, trained_method
from workers.files.figures import Curve, parse_figures
from workers.pipelines import variant_stages
from workers.processes.runtime import Runtime
from workers.stages import attention_statistics
from workers.trial import InferenceSection


def chosen(name: str, **options) -> Component:
    return Component(name=name, config=analysis.options_class(name)(**options))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work(tmp_path_factory.mktemp("analyses"))


@pytest.fixture(scope="module")
def statistics(work):
    """(stage, record, folder) of the statistics of a small trial."""
    options = {"images": 7, "examples": 2, "top": 3, "layers": (0, 2)}
    (stage,) = variant_stages(TRIAL, fingerprint, [chosen("attention_statistics", **options)]).analyses
    record = work.runner.run(stage)
    return stage, record, work.store.get(stage.key)


def test_all_are_found_and_no_other_stage_is_one():
    assert set(analysis.names()) == {"attention_statistics", "held_out_gain", "layer_gain", "segmentation_head"}
    listed = "attention_statistics, held_out_gain, layer_gain, segmentation_head"
    with pytest.raises(ConfigError, match=f"no analysis 'infer_cam'; there are: {listed}"):
        analysis.options_class("infer_cam")


@pytest.mark.slow
def test_every_measure_of_every_layer(statistics):
    _, record, folder = statistics
    figures = parse_figures((folder / "figures.json").read_text())
    assert [curve.name for curve in figures.curves] == list(attention_statistics.MEASURES)
    for curve in figures.curves:
        values = [record.metrics[f"layer/{layer:02d}/{curve.name}"] for layer in range(3)]
        assert list(curve.values) == values
    patches = 16
    ranges = {"hellinger": 1, "gini": 1, "foreground": 1, "effective_rank": patches, "entropy": np.log2(patches)}
    for curve in figures.curves:
        assert all(0 <= value <= ranges[curve.name] + 1e-6 for value in curve.values)
    declared = [name for one in metric.of_stage("attention_statistics") for name in one.names(TRIAL)]
    assert sorted(record.metrics) == sorted(declared)


@pytest.mark.slow
def test_entropies_are_those_of_the_method(work, statistics):
    """The stage slices them from the whole attention; the method's own function computes the block."""
    stage, record, _ = statistics
    dataset = build_dataset(DATA)
    backbone = build_backbone(TRIAL.backbone, len(dataset.class_names), 32)
    load_weights(backbone, work.store.get(stage.inputs["host"].key))
    backbone.eval()
    ids = list(dataset.ids("train"))
    ids = [ids[index] for index in (0, 2, 3, 4, 6, 8, 9)]  # 7 of 10, evenly: 1.5 rounds to 2, 4.5 to 4, 7.5 to 8
    images = torch.stack([to_tensor(resized(dataset.image(i), 32), backbone.mean, backbone.std) for i in ids])
    present = torch.stack([torch.from_numpy(dataset.labels(i)) for i in ids]) > 0
    with torch.no_grad():
        expected = layer_entropies(backbone, backbone(images), present, "raw", "softmax")
    found = [record.metrics[f"layer/{layer:02d}/entropy"] for layer in range(3)]
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


def test_pictures_of_the_chosen_layers(statistics):
    _, _, folder = statistics
    figures = parse_figures((folder / "figures.json").read_text())
    assert len(figures.pictures) == 4
    for picture in figures.pictures:
        with Image.open(folder / picture.path) as image:
            panels = 2 if picture.name.startswith("affinity") else 3
            side = 16 if panels == 2 else 32
            factor = round(160 / side)
            assert image.size == ((panels * side + (panels - 1) * 4) * factor, side * factor)
        assert "layers 0, 2" in picture.caption


def test_variants_share_the_statistics_of_their_training():
    variants = [
        variant_stages(
            dataclasses.replace(TRIAL, inference=InferenceSection(image_size=32, flip=flip)),
            fingerprint,
            [chosen("attention_statistics"), chosen("layer_gain")],
        ).analyses
        for flip in (True, False)
    ]
    assert variants[0][0].key == variants[1][0].key
    assert variants[0][1].key != variants[1][1].key


def test_layer_gain_has_its_best_layer(work):
    (stage,) = variant_stages(TRIAL, fingerprint, [chosen("layer_gain")]).analyses
    metrics = work.runner.run(stage).metrics
    (curve,) = parse_figures((work.store.get(stage.key) / "figures.json").read_text()).curves
    assert metrics["layer/best/miou"] == max(curve.values)
    assert curve.marks == {
        "none": metrics["layer/none/miou"],
        "all layers": metrics["layer/all/miou"],
        "best layer": max(curve.values),
    }


def test_held_out_images_are_cut_at_the_thresholds_of_train_images(work):
    """Against a count of pixels on the CAMs of val images, at the thresholds that ``layer_gain`` wrote."""
    (stage,) = variant_stages(TRIAL, fingerprint, [chosen("held_out_gain")]).analyses
    metrics = work.runner.run(stage).metrics
    thresholds = json.loads((work.store.get(stage.inputs["gain"].key) / "layers.json").read_text())
    dataset = build_dataset(DATA)
    backbone = build_backbone(TRIAL.backbone, len(dataset.class_names), 32)
    load_weights(backbone, work.store.get(stage.inputs["host"].key))
    cams = stage.config.infer.cams
    images = list(infer_cams(backbone, dataset, "val", cams, device=torch.device("cpu")))
    for name, layers in {"none": (), "all": (0, 1, 2), "01": (1,)}.items():
        truth, given = [], []
        for image in images:
            scores = image.combine(layers)
            classes = np.array([c + 1 for c in image.classes])
            labels = np.where(scores.max(0) > thresholds[name]["threshold"], classes[scores.argmax(0)], 0)
            mask = dataset.mask(image.image_id)
            truth.append(mask[mask != 255])
            given.append(labels[mask != 255])
        truth, given = np.concatenate(truth), np.concatenate(given)
        ious = [
            ((truth == c) & (given == c)).sum() / ((truth == c) | (given == c)).sum()
            for c in dataset.scored_classes
            if (truth == c).any()
        ]
        assert metrics[f"held_out/{name}/miou"] == pytest.approx(np.mean(ious), abs=1e-3)  # scores are counted in bins


def test_held_out_images_at_a_threshold_of_zero(work):
    """The first that published searches try, and the best one where a CAM is constant."""
    trial = dataclasses.replace(TRIAL, labels=LabelsConfig(thresholds=(0.0, 0.0, 0.01)))
    (stage,) = variant_stages(trial, fingerprint, [chosen("held_out_gain")]).analyses
    metrics = work.runner.run(stage).metrics
    gain = json.loads((work.store.get(stage.inputs["gain"].key) / "layers.json").read_text())
    assert {each["threshold"] for each in gain.values()} == {0.0}
    assert 0 < metrics["held_out/all/miou"] < 1


@pytest.mark.slow
def test_held_out_images_need_masks(tmp_path, monkeypatch):
    (stage,) = variant_stages(TRIAL, fingerprint, [chosen("held_out_gain")]).analyses
    drawn = shapes.Shapes.mask
    monkeypatch.setattr(shapes.Shapes, "mask", lambda self, i: None if i.startswith("val") else drawn(self, i))
    with pytest.raises(StageFailed, match="needs masks of val images, and none has one"):
        Work(tmp_path).runner.run(stage)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": (3,)}, "need layers in 0..2, got \\[3\\]"), ({"image_size": 36}, "multiple of the patch size 8")],
)
def test_options_that_do_not_fit_the_backbone(options, message):
    with pytest.raises(ConfigError, match=message):
        variant_stages(TRIAL, fingerprint, [chosen("attention_statistics", **options)])


@pytest.mark.parametrize("options", [{"images": 0}, {"top": 0}, {"layers": ()}, {"layers": (1, 1)}, {"examples": -1}])
def test_impossible_options(options):
    with pytest.raises(ConfigError):
        chosen("attention_statistics", **options)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "{}",
        json.dumps({"curves": [{"name": "x"}], "pictures": []}),
        json.dumps({"curves": [], "pictures": [{"name": "../../x", "caption": ""}]}),
        json.dumps({"curves": [{"name": "x", "y": "", "caption": "", "values": ["1"]}], "pictures": []}),
        '{"curves": [{"name": "x", "y": "", "caption": "", "values": [NaN]}], "pictures": []}',
    ],
)
def test_figures_that_nobody_wrote_are_refused(text):
    with pytest.raises(DataError):
        parse_figures(text)


def test_a_curve_is_finite():
    with pytest.raises(DataError, match="finite"):
        Curve("x", "y", "", (float("nan"),))


def with_decoder(**changes):
    config = more.Config(label_mode="online", uncertain_weight=0.0, segment_channels=8, **changes)
    backbone = dataclasses.replace(TRIAL.backbone.config, class_token_mass="copied")
    return dataclasses.replace(
        TRIAL,
        method=Component(name="more", config=config),
        backbone=Component(name="mctformer_v2", config=backbone),
    )


def test_a_decoder_of_a_method_is_scored_on_val_images(work):
    once = chosen("segmentation_head", evaluate=SegmentationEvaluation(scales=(1.0,), flip=False))
    (stage,) = variant_stages(with_decoder(segment=True), fingerprint, [once]).analyses
    row = work.runner.run(stage).metrics
    training, folder = stage.config.training, work.store.get(stage.inputs["host"].key)
    images, network = trained_host(training.data, training.backbone, 32, folder, Runtime())
    method = trained_method(training.method, network.eval(), 6, 32, {"host": folder})
    hits, either, there = np.zeros(7), np.zeros(7), np.zeros(7)
    for image_id in images.ids("val"):
        pixels = to_tensor(images.image(image_id), network.mean, network.std)[None]
        found, truth = method.segment(network, pixels)[0].argmax(dim=0).numpy(), images.mask(image_id)
        for k in range(7):
            ours, theirs = (found == k) & (truth != 255), truth == k
            hits[k] += (ours & theirs).sum()
            either[k] += (ours | theirs).sum()
            there[k] += theirs.sum()
    assert row["head/seg_miou_all"] == pytest.approx((hits[there > 0] / either[there > 0]).mean())
    assert row["head/seg_classes"] == (there > 0).sum() >= 2


def test_a_method_without_a_decoder_has_none_to_score():
    with pytest.raises(ConfigError, match="method more trains no decoder; more does with segment: true"):
        variant_stages(with_decoder(), fingerprint, [chosen("segmentation_head")])
