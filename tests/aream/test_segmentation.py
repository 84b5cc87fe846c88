from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aream import discover, segmenters
from aream.batches import to_tensor
from aream.data import shapes
from aream.segmentation import (
    SegmentationEvaluation,
    SegmentationRun,
    SegmentationTraining,
    evaluate,
    predict,
    segmentation_loss,
)
from aream.segmenters import deeplab
from aream.training import Checkpoints

SMALL = {"deeplab": deeplab.Config(encoder="resnet10t", output_stride=None, level=1, rates=(1,), channels=8)}


@pytest.fixture
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=3))


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    return deeplab.build(SMALL["deeplab"], 7, 32)


@pytest.mark.parametrize("name", discover.names(segmenters))
def test_contract(name):
    torch.manual_seed(0)
    built = discover.load(segmenters, name).build(SMALL[name], 5, 33).eval()
    assert built(torch.randn(2, 3, 33, 47)).shape == (2, 5, 33, 47)
    assert built.head_parameters()


def test_a_crop_that_is_all_ignored_gives_zero_loss_and_zero_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.eq(0).all()


def test_the_loss_is_the_mean_over_labelled_pixels():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 255], [2, 1]]])
    picked = [-logits[0, :, y, x].log_softmax(0)[labels[0, y, x]] for y, x in ((0, 0), (1, 0), (1, 1))]
    torch.testing.assert_close(segmentation_loss(logits, labels), torch.stack(picked).mean())


def test_training_on_ignored_labels_alone_changes_nothing_but_by_decay(dataset, segmenter):
    config = SegmentationTraining(epochs=1, batch_size=3, crop=40, lr=0.1, weight_decay=0.0)
    before = {name: value.clone() for name, value in segmenter.named_parameters()}
    ignored = np.full((32, 32), 255, dtype=np.uint8)
    run = SegmentationRun(segmenter, dataset, lambda image_id: ignored, config, 0, device=torch.device("cpu"))
    rows = []
    run.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))
    assert rows == [{"epoch": 1.0, "train/segmentation_loss": 0.0}]
    assert all(torch.equal(value, before[name]) for name, value in segmenter.named_parameters())


def test_prediction_averages_scales_and_flips(dataset, segmenter):
    config = SegmentationEvaluation(scales=(0.75, 1.0), flip=True)
    found = dict(predict(segmenter, dataset, "val", config, device=torch.device("cpu"), precision="fp32"))
    segmenter.eval()
    for image_id, prediction in found.items():
        image = dataset.image(image_id)
        total = torch.zeros(7, 32, 32)
        for side in (24, 32):
            pixels = to_tensor(image.resize((side, side), 3), segmenter.mean, segmenter.std)[None]
            with torch.no_grad():
                for logits in (segmenter(pixels), segmenter(pixels.flip(-1)).flip(-1)):
                    total += F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)[0]
        assert (prediction == total.argmax(0).numpy()).mean() > 0.999  # ties of rounding aside


def test_evaluation_counts_every_masked_pixel_once(dataset):
    perfect = ((image_id, dataset.mask(image_id)) for image_id in dataset.ids("val"))
    counts = evaluate(perfect, dataset)
    labelled = sum((dataset.mask(image_id) != 255).sum() for image_id in dataset.ids("val"))
    assert counts.sum() == labelled == np.trace(counts)
