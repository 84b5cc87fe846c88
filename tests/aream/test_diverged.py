"""Numbers that run away end a training before they reach a row."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_networks import CONFIG, CPU, SEGMENTATION, Hungry, host, labels_of, segmenter, train

from aream.backbones.protocol import BackboneOutput
from aream.datasets import shapes
from aream.engine.pending import PendingChecks
from aream.engine.steps import apply_gradients
from aream.errors import DivergedError
from aream.segmentation.config import SegmentationEvaluation
from aream.segmentation.predict import predict
from aream.segmentation.train import SegmentationRun
from aream.train import Checkpoints, Training, seed_everything


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))


class Poisoned(Hungry):
    """Not a number in the output, in that for val images alone, or in the gradient alone."""

    where = "output"

    def forward(self, images):
        output = super().forward(images)
        if self.where == "output":
            return BackboneOutput(tuple(x * torch.nan for x in output.logits), output.cams, output.layers)
        if self.where == "val" and not self.training:
            return BackboneOutput(tuple(x * torch.nan for x in output.logits), output.cams, output.layers)
        if self.where == "gradient":
            for logits in output.logits:
                if logits.requires_grad:
                    logits.register_hook(lambda gradient: gradient * torch.inf)
        return output


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("output", r"loss is not finite in epoch 1, step 1 \(classification nan\); images: train_"),
        ("gradient", r"gradient is not finite in epoch 1, step 1; images: train_"),
        ("val", r"scores of val images are not finite after epoch 1"),
    ],
)
def test_numbers_that_run_away_end_the_training_before_a_row(dataset, where, message):
    backbone = host()
    backbone.__class__, backbone.where = Poisoned, where
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    with pytest.raises(DivergedError, match=message):
        train(dataset, backbone)
    if where != "val":
        assert all(torch.equal(a, b) for a, b in zip(before, backbone.parameters(), strict=True))


def test_a_segmentation_loss_that_runs_away_names_its_step_and_images(dataset):
    model = segmenter()
    with torch.no_grad():
        model.classifier[1].bias[0] = torch.nan
    run = SegmentationRun(model, dataset, labels_of(dataset), SEGMENTATION, 0, device=CPU)
    with pytest.raises(DivergedError, match=r"epoch 1, step 1 \(segmentation nan\); images: train_"):
        run.run(report=lambda row: None, checkpoints=Checkpoints(save=lambda state: None))
    with pytest.raises(DivergedError, match="scores of the image val_00000 are not finite"):
        list(predict(model, dataset, "val", SegmentationEvaluation(scales=(1.0,)), device=CPU, precision="fp32"))


def test_a_scaler_leaves_the_step_out_and_scales_less():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for gradient, value, scale in ((torch.inf, 1.0, 4.0), (1.0, 0.9, 4.0)):
        optimizer.zero_grad()
        scaler.scale((parameter * gradient).sum()).backward()
        apply_gradients(optimizer, scaler, PendingChecks(CPU), "here", ["a"])
        assert parameter.tolist() == pytest.approx([value] * 3)
        assert scaler.get_scale() == scale


def test_gradients_that_no_scale_helps_end_the_training():
    """Else every step would be left out, to the end."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler, checks = torch.amp.GradScaler("cpu"), PendingChecks(CPU)

    def step(number):
        optimizer.zero_grad()
        scaler.scale((parameter * torch.nan).sum()).backward()
        apply_gradients(optimizer, scaler, checks, f"step {number}", ["a", "b"])

    for number in range(32):  # from 2 ** 16 to 2 ** -16
        step(number)
    with pytest.raises(DivergedError, match=r"not finite in step 32 and the steps before it.*images: a, b"):
        step(32)
    assert parameter.tolist() == [1.0] * 3


@pytest.mark.parametrize(("where", "told"), [("gradient", 2), ("nowhere", 0)])
def test_an_epoch_that_changed_no_weight_says_so(dataset, where, told, caplog):
    seed_everything(0)
    backbone = host()
    backbone.__class__, backbone.where = Poisoned, where
    training = Training(backbone, None, dataset, dataclasses.replace(CONFIG, epochs=2), 0, device=CPU)
    training.scaler = torch.amp.GradScaler("cpu")
    training.run(report=lambda row: None)
    found = [text for text in caplog.messages if "overflow in fp16: it changed no weight" in text]
    assert [text.split(":")[0] for text in found] == ["epoch 1", "epoch 2"][:told]
