"""Steps that memory does not hold."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import CONFIG, CPU, NETWORKS, SEGMENTATION, Hungry, host, labels_of, segmenter, sharpen, train
from thread_ranks import numbers

from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.engine.poly_sgd import Samples
from aream.engine.randomness import random_state, restore_random_state
from aream.engine.steps import MicroBatches
from aream.errors import OutOfMemory
from aream.methods import aream, mctformer
from aream.segmentation.train import SegmentationRun
from aream.train import Checkpoints, Training

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))


def batch(count: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    labels = (torch.rand(count, 6, generator=generator) > 0.6).double()
    labels[:, 0] = 1
    images = torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64)
    return Batch(images, labels, tuple(f"image_{index}" for index in range(count)))


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "entropy_online", "entropy_prob": "sum", "supervised_layers": "all"},
        {"label_mode": "online"},
        {
            "label_mode": "online",
            "weights": "entropy_online",
            "entropy_prob": "sum",
            "supervised_layers": "all",
            "reduce": "sum",
        },
        {"label_mode": "train", "label_scales": (1.0, 1.5)},
        None,
    ],
    ids=["uniform", "entropy", "online", "online entropy", "train", "no method"],
)
@pytest.mark.filterwarnings("ignore:.*")
def test_gradients_of_pieces_are_those_of_the_batch(dataset, size, changes, network):
    """MicroBatches of unequal size and unequal pair counts, in float64 without random numbers."""
    method = mctformer.PlainHost() if changes is None else aream.build(
        aream.resolve(aream.Config(alpha_low=0.3, alpha_high=0.45, affinity_weight=10.0, **(changes or {})), 3)
    )  # fmt: skip
    found = []
    for pieces in (7, size):
        training = Training(NETWORKS[network]().double(), method, dataset, CONFIG, 0, device=CPU)
        sharpen(training.backbone)
        training.backbone.train()
        training.epoch = 1
        losses = numbers(training.gradients_of_part(batch(7), pieces, "here"))
        found.append((losses, [parameter.grad for parameter in training.backbone.parameters()]))
    (whole, expected), (parts, gradients) = found
    assert changes is None or whole["train/affinity_loss"] > 0.01
    assert parts == pytest.approx(whole, rel=1e-5)
    for gradient, other in zip(gradients, expected, strict=True):
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_step_that_memory_does_not_hold_is_done_in_pieces(dataset):
    hungry, rows = train(dataset, host(most=2), out_of_memory="accumulate")
    assert [row["train/micro_batch"] for row in rows] == [1.0, 1.0]  # of 6: 3 is too much, too
    plain, expected = train(dataset, host(), out_of_memory="accumulate")
    assert [row["train/micro_batch"] for row in expected] == [6.0, 6.0]
    assert rows[0]["train/classification_loss"] == pytest.approx(expected[0]["train/classification_loss"], rel=1e-4)
    for found, other in zip(hungry.backbone.parameters(), plain.backbone.parameters(), strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-3)


def test_the_size_that_held_is_kept_by_checkpoints(dataset):
    first, _ = train(dataset, host(most=3), epochs=1, out_of_memory="accumulate")
    backbone = host()
    method = aream.build(aream.resolve(aream.Config(label_flip=False), 3))
    config = dataclasses.replace(CONFIG, out_of_memory="accumulate")
    second = Training(backbone, method, dataset, config, 0, device=CPU)
    second.restore(first.state())
    rows: list[dict[str, float]] = []
    second.run(2, report=rows.append)
    assert rows[-1]["train/micro_batch"] == 3.0


def test_the_random_numbers_of_a_redone_step_are_those_of_the_first_try(dataset):
    """Drop path draws from torch's generator; a network that fails after drawing must not shift it."""
    results = []
    for start in (6, 3):
        training = Training(host(most=3, drop_path=0.5), None, dataset, CONFIG, 0, device=CPU)
        training.pieces = MicroBatches(6, "accumulate", "")
        training.pieces.size = start
        torch.manual_seed(5)
        training.backbone.train()
        for one in training.batches.epoch(0):
            training.train_step(one)
        results.append([parameter.detach().clone() for parameter in training.backbone.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


@pytest.mark.parametrize(("most", "policy"), [(3, "fail"), (0, "accumulate")])
def test_what_no_piece_solves_says_what_to_change(dataset, most, policy):
    with pytest.raises(OutOfMemory) as caught:
        train(dataset, host(most=most), out_of_memory=policy)
    said = str(caught.value)
    assert "out of memory in epoch 1, step 1, 6 images a batch" in said
    assert "lower train.batch_size (6) or train.image_size (32)" in said
    assert ("in pieces of 1" in said) == (policy == "accumulate")
    assert ("set train.out_of_memory to accumulate" in said) == (policy == "fail")
    assert "allocate" in said


def test_other_errors_are_not_taken_for_want_of_memory(dataset):
    class Broken(Hungry):
        def forward(self, images):
            raise RuntimeError("shapes do not fit")

    backbone = host()
    backbone.__class__ = Broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(dataset, backbone, out_of_memory="accumulate")


LIMITED = """
import resource, sys, torch
torch.set_num_threads(1)
from aream.backbones import mctformer_v2
from aream.augmentations import deit
from aream.config import Component
from aream.datasets import shapes
from aream.errors import OutOfMemory
from aream.train import TrainConfig, Training
images = 256
dataset = shapes.build(shapes.Config(image_size=64, train_images=images, val_images=2))
config = TrainConfig(epochs=2, warmup_epochs=1, batch_size=images, lr_warmup_epochs=0, image_size=64,
                     augmentation=Component(name="deit", config=deit.Config(rand_augment=None)),
                     out_of_memory=sys.argv[1])
backbone = mctformer_v2.build(
    mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=96, depth=6, heads=3), 6, 64)
training = Training(backbone, None, dataset, config, 0, device=torch.device("cpu"))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20, -1))
try:
    training.run(1, report=lambda row: print("row", int(row["train/micro_batch"])))
except OutOfMemory as error:
    print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fail", "accumulate"])
def test_under_a_real_limit(policy):
    """Activations of 256 images need more address space than the process may have."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), policy], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if policy == "fail":
        assert "refused: out of memory in epoch 1, step 1, 256 images a batch: lower train.batch_size" in done.stdout
    else:
        assert 1 <= int(done.stdout.removeprefix("row ")) < 256


@pytest.mark.parametrize("size", [1, 4])
def test_segmentation_gradients_of_pieces_are_those_of_the_batch(dataset, size):
    found = []
    for pieces in (6, size):
        model = segmenter().double()
        run = SegmentationRun(model, dataset, labels_of(dataset), SEGMENTATION, 0, device=CPU)
        model.eval()  # batch norm in train mode sees the piece
        samples = [(image.double(), labels) for image, labels in (run.sample(one, 0, 0) for one in run.ids[:6])]
        loss = numbers(run.gradients(Samples(run.ids[:6], samples), pieces, "here"))
        found.append((loss, [parameter.grad for parameter in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for gradient, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5)


def test_a_segmenter_is_trained_in_pieces_and_its_running_statistics_see_each_once(dataset):
    rows: list[dict[str, float]] = []
    config = dataclasses.replace(SEGMENTATION, out_of_memory="accumulate")
    model = segmenter(most=3)
    run = SegmentationRun(model, dataset, labels_of(dataset), config, 0, device=CPU)
    run.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))
    assert rows[0]["train/micro_batch"] == 3.0
    counts = {int(value) for name, value in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {run.steps * 2}
    failing = SegmentationRun(segmenter(most=3), dataset, labels_of(dataset), SEGMENTATION, 0, device=CPU)
    with pytest.raises(OutOfMemory, match=r"segmentation\.train\.batch_size \(6\) or segmentation\.train\.crop \(32\)"):
        failing.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))


def test_generators_go_back():
    state = random_state()
    drawn = torch.rand(3), np.random.rand(3)
    restore_random_state(state)
    again = torch.rand(3), np.random.rand(3)
    assert torch.equal(drawn[0], again[0])
    assert np.array_equal(drawn[1], again[1])
