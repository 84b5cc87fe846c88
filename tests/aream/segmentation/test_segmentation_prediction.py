from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from small_segmenters import build
from torch.nn import functional as F

from aream.crf import dense_crf
from aream.datasets import shapes
from aream.errors import ConfigError
from aream.images import to_tensor
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import evaluate, merged, predict

RULES = ("mean_logits", "mean_softmax", "max_softmax")


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=3))


def in_a_loop(views: np.ndarray, rule: str) -> np.ndarray:
    """The rule for each pixel, in plain numbers; views are (v, k, h, w)."""

    def softmax(values):
        powers = [math.exp(value - max(values)) for value in values]
        return [power / sum(powers) for power in powers]

    out = np.zeros(views.shape[1:])
    for y in range(views.shape[2]):
        for x in range(views.shape[3]):
            pixel = views[:, :, y, x].tolist()
            if rule == "mean_logits":
                out[:, y, x] = softmax([sum(view[k] for view in pixel) / len(pixel) for k in range(views.shape[1])])
                continue
            shares = [softmax(view) for view in pixel]
            join = max if rule == "max_softmax" else sum
            scores = [join(share[k] for share in shares) for k in range(views.shape[1])]
            out[:, y, x] = np.array(scores) / sum(scores)
    return out


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("views", "classes", "size"), [(1, 3, (2, 3)), (5, 4, (3, 2)), (2, 1, (1, 1))])
def test_views_merge_as_in_a_loop(rule, views, classes, size):
    logits = np.random.default_rng(views).normal(size=(views, classes, *size)) * 4
    found = merged(torch.from_numpy(logits), rule).numpy()
    np.testing.assert_allclose(found, in_a_loop(logits, rule), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), 1)


def test_rules_can_disagree():
    """One sure view against two that lean the other way."""
    logits = torch.tensor([[6.0, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 2.5, 0.0]])[:, :, None, None]
    chosen = {rule: int(merged(logits, rule).argmax(dim=0)) for rule in RULES}
    assert chosen == {"mean_logits": 0, "mean_softmax": 1, "max_softmax": 0}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("flip", [True, False])
def test_predictions_merge_scales_and_mirrors(dataset, rule, flip):
    segmenter = build("deeplab", 7)
    config = SegmentationEvaluation(scales=(0.75, 1.0), flip=flip, merge=rule)
    found = dict(predict(segmenter, dataset, "val", config, device=torch.device("cpu"), precision="fp32"))
    assert list(found) == list(dataset.ids("val"))
    segmenter.eval()
    for image_id, prediction in found.items():
        image, views = dataset.image(image_id), []
        for side in (24, 32):
            pixels = to_tensor(image.resize((side, side), 3), segmenter.mean, segmenter.std)[None]
            with torch.no_grad():
                upright, mirrored = segmenter(pixels), segmenter(pixels.flip(-1)).flip(-1)
            for logits in (upright, mirrored) if flip else (upright,):
                views.append(F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)[0])
        expected = in_a_loop(torch.stack(views).double().numpy(), rule).argmax(axis=0)
        assert (prediction == expected).mean() > 0.999  # ties of rounding aside


def test_a_crf_sees_the_image_and_the_merged_probabilities(dataset):
    segmenter = build("deeplab", 7).eval()
    with torch.no_grad():
        segmenter.classifier[1].weight.mul_(30)  # else one class is everywhere, and stays so
    config = SegmentationEvaluation(scales=(1.0,), flip=False)
    crf = dense_crf.Config(iterations=3, bilateral_sxy=8.0, bilateral_srgb=20.0)
    cpu = torch.device("cpu")
    found = dict(predict(segmenter, dataset, "val", dataclasses.replace(config, crf=crf), device=cpu, precision="fp32"))
    plain = dict(predict(segmenter, dataset, "val", config, device=cpu, precision="fp32"))
    for image_id, prediction in found.items():
        image = dataset.image(image_id)
        with torch.no_grad():
            probabilities = segmenter(to_tensor(image, segmenter.mean, segmenter.std)[None])[0].softmax(dim=0)
        pixels = torch.tensor([[image.getpixel((x, y)) for x in range(32)] for y in range(32)], dtype=torch.uint8)
        expected = dense_crf.DenseCRF(crf).apply(pixels.permute(2, 0, 1), probabilities).argmax(dim=0)
        assert (prediction == expected.numpy()).mean() > 0.999
    assert any((found[image_id] != plain[image_id]).any() for image_id in found)


def test_evaluation_counts_every_masked_pixel_once(dataset):
    perfect = ((image_id, dataset.mask(image_id)) for image_id in dataset.ids("val"))
    counts = evaluate(perfect, dataset)
    labelled = sum((dataset.mask(image_id) != 255).sum() for image_id in dataset.ids("val"))
    assert counts.sum() == labelled == np.trace(counts)


@pytest.mark.parametrize("scales", [(), (0.0,), (9.0,)])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(ConfigError, match="scales: need one or more positive scales"):
        SegmentationEvaluation(scales=scales)
