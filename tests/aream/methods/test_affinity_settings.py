"""The forms of the affinity loss beside the published one, and what a training says of its pull."""

from __future__ import annotations

import dataclasses

import oracles
import pytest
import torch
from small_networks import CONFIG, CPU, host

from aream.backbones.protocol import BackboneOutput
from aream.cams.affinity import LayerQK
from aream.config import Component
from aream.datasets import shapes
from aream.engine.ranks import ALONE
from aream.errors import ConfigError
from aream.labels.training_labels import affinity_labels
from aream.methods import aream, mean_affinity
from aream.methods._label_views import label_views
from aream.methods.protocol import FIRST, Progress
from aream.metrics import IGNORE
from aream.refiners import none
from aream.train import Training, seed_everything

DEPTH, IMAGES = 3, 6
NO_REFINER = Component(name="none", config=none.Config())
LABELS = {"label_flip": False, "alpha_low": 0.3, "alpha_high": 0.5, "refiner": NO_REFINER}


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=IMAGES, val_images=2))


def method(**changes):
    return aream.build(aream.resolve(aream.Config(**(LABELS | changes)), DEPTH))


def first_gradients(dataset, chosen, **changes):
    """Of the first step, by the names of parameters, and the row of the epoch."""
    seed_everything(0)
    config = dataclasses.replace(CONFIG, epochs=1, warmup_epochs=0, **changes)
    training = Training(host(), chosen, dataset, config, 0, device=CPU)
    seen, rows = [], []
    names = {id(parameter): name for name, parameter in training.backbone.named_parameters()}

    def keep(optimizer, args, kwargs):
        seen.append(
            {
                names[id(part)]: part.grad.clone()
                for group in optimizer.param_groups
                for part in group["params"]
                if part.grad is not None
            }
        )

    training.optimizer.register_step_pre_hook(keep)
    training.run(1, report=rows.append)
    return seen[0], rows[0]


def apart(one, other):
    return {name: value - other[name] for name, value in one.items()}


def norm(gradients, layers):
    parts = [v for name, v in gradients.items() if any(name.startswith(f"blocks.{layer}.") for layer in layers)]
    return torch.cat([part.flatten() for part in parts]).norm().item()


def test_a_row_of_logits_is_centred_and_its_mean_passes_no_gradient(dataset):
    batch = next(iter(Training(host(), None, dataset, CONFIG, 0, device=CPU).batches.epoch(0)))
    backbone = host()
    output = backbone(batch.images)
    leaves = [LayerQK(a.queries.detach().requires_grad_(), a.keys.detach().requires_grad_()) for a in output.layers]
    given = BackboneOutput(output.logits, output.cams, leaves)
    chosen = method(affinity_logits="centred", supervised_layers="all", affinity_weight=1.0)
    (losses,) = chosen.losses_of_parts(backbone, [batch])
    found = losses(given).losses["affinity"]
    found.backward()

    t, d = backbone.prefix_tokens, leaves[0].queries.shape[3]
    copies = [LayerQK(a.queries.detach().requires_grad_(), a.keys.detach().requires_grad_()) for a in leaves]
    logits = []
    for layer in copies:
        raw = (layer.queries @ layer.keys.transpose(2, 3) / d**0.5)[:, :, t:, t:]
        means = torch.tensor(
            [[[sum(raw[i, :, m, n].mean().item() for n in range(16)) / 16] for m in range(16)] for i in range(IMAGES)]
        )
        logits.append(raw - means[:, None])
    pairs = chosen_pairs(chosen, backbone, batch)
    expected = oracles.affinity_loss(logits, pairs, None, "mean")
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(leaves, copies, strict=True):
        torch.testing.assert_close(ours.queries.grad, theirs.queries.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(ours.keys.grad, theirs.keys.grad, rtol=1e-3, atol=1e-6)


def chosen_pairs(chosen, backbone, batch):
    """The labels that the method makes, as pairs: tested against a plain form elsewhere."""
    labels = chosen._labels(backbone, batch, label_views(backbone, batch, chosen.config), None)
    pairs = affinity_labels(labels, (4, 4))
    assert {0, 1} <= set(pairs.unique().tolist())
    return pairs.long()


def test_a_total_is_spread_over_the_steps_after_the_warm_up(dataset):
    batch = next(iter(Training(host(), None, dataset, CONFIG, 0, device=CPU).batches.epoch(0)))
    backbone = host()
    output = backbone(batch.images)
    (one,) = method(affinity_weight=1.0).losses_of_parts(backbone, [batch])
    (spread,) = method(affinity_weight=aream.TotalWeight(total=14.0)).losses_of_parts(
        backbone, [batch], progress=Progress(3, 7)
    )
    expected = 2 * one(output).losses["affinity"]
    assert expected > 0
    torch.testing.assert_close(spread(output).losses["affinity"], expected)
    with pytest.raises(ConfigError, match="total: need a sum of weights >= 0, got -1"):
        aream.TotalWeight(total=-1.0)


def test_a_total_makes_trainings_of_any_length_weigh_the_same(dataset):
    summed = []
    for epochs in (2, 5):
        seed_everything(0)
        config = dataclasses.replace(CONFIG, epochs=epochs, warmup_epochs=1, lr=1e-12, lr_floor=1e-12, batch_size=3)
        chosen = method(affinity_weight=aream.TotalWeight(total=100.0))
        training = Training(host(), chosen, dataset, config, 0, device=CPU)
        training.run(epochs, report=lambda row: None)
        steps = len(training.batches)
        summed.append(sum(row.get("train/affinity_loss", 0.0) * steps for row in training.history))
    assert summed[0] == pytest.approx(summed[1], rel=0.3)  # the images are the same but for their augmentation
    assert summed[0] > 0


def test_a_loss_that_reaches_deep_teaches_no_shallow_layer(dataset):
    plain, _ = first_gradients(dataset, mean_affinity.build(mean_affinity.Config()))
    everywhere, _ = first_gradients(dataset, method(affinity_weight=5.0, layer_index=1))
    deep, _ = first_gradients(dataset, method(affinity_weight=5.0, layer_index=1, affinity_reach="deep"))
    assert plain.keys() == everywhere.keys() == deep.keys()
    pulled = apart(everywhere, plain)
    assert norm(pulled, [0]) > 1e-4
    for name, gradient in deep.items():
        below = not name.startswith(("blocks.1.", "blocks.2."))
        torch.testing.assert_close(gradient, plain[name] if below else everywhere[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("reach", ["all", "deep"])
def test_no_pass_goes_below_where_the_loss_ends(dataset, reach):
    seed_everything(0)
    config = dataclasses.replace(CONFIG, epochs=1, warmup_epochs=0)
    backbone = host()
    passes = [0] * DEPTH
    training = Training(backbone, method(layer_index=1, affinity_reach=reach), dataset, config, 0, device=CPU)
    training.step = 1  # none of those in which both gradients are taken apart

    def count(layer):
        def counted(gradient):
            passes[layer] += 1

        return counted

    forward = backbone.forward

    def watched(images):
        output = forward(images)
        for layer, projected in enumerate(output.layers):
            if projected.queries.requires_grad:
                projected.queries.register_hook(count(layer))
        return output

    backbone.forward = watched
    training.train_step(next(iter(training.batches.epoch(0))))
    assert passes == ([1, 1, 1] if reach == "all" else [1, 2, 2])


def test_the_pull_of_the_method_is_the_ratio_of_both_gradients(dataset):
    plain, _ = first_gradients(dataset, mean_affinity.build(mean_affinity.Config()))
    for reach in ("all", "deep"):
        chosen = method(affinity_weight=3.0, affinity_reach=reach)
        _, row = first_gradients(dataset, chosen)
        everywhere, _ = first_gradients(dataset, method(affinity_weight=3.0))
        expected = norm(apart(everywhere, plain), [2]) / norm(plain, [2])
        assert chosen.supervised == (2,)
        assert row["train/method_gradient"] == pytest.approx(expected, rel=1e-3)
    _, none_at_all = first_gradients(dataset, method(affinity_weight=0.0))
    assert none_at_all["train/method_gradient"] == 0
    _, row = first_gradients(dataset, mean_affinity.build(mean_affinity.Config()))
    assert "train/method_gradient" not in row


def test_shares_of_labels_and_pairs_are_reported(dataset):
    seed_everything(0)
    chosen = method()
    config = dataclasses.replace(CONFIG, epochs=1, warmup_epochs=0, lr=1e-12, lr_floor=1e-12)
    training = Training(host(), chosen, dataset, config, 0, device=CPU)
    (batch,) = training.batches.epoch(0)
    pairs = chosen_pairs(chosen, training.backbone, batch)
    training.run(1, report=lambda row: None)
    (row,) = training.history
    assert row["train/positive_share"] == pytest.approx((pairs == 1).sum().item() / pairs.numel(), abs=0.02)
    assert row["train/negative_share"] == pytest.approx((pairs == 0).sum().item() / pairs.numel(), abs=0.02)
    assert 0 < row["train/uncertain_share"] < 1


class Unsure(aream.AReAM):
    """Is sure of no pixel in some of the steps."""

    def __init__(self, config, unsure) -> None:
        super().__init__(config, None)
        self.unsure, self.step = unsure, 0

    def losses_of_parts(self, backbone, parts, ranks=ALONE, progress=FIRST):
        self.step = progress.step
        return super().losses_of_parts(backbone, parts, ranks, progress)

    def _labels(self, backbone, batch, views, weights):
        labels = super()._labels(backbone, batch, views, weights)
        return torch.full_like(labels, IGNORE) if self.step in self.unsure else labels


@pytest.mark.parametrize("memory", [{}, {"out_of_memory": "accumulate"}])
def test_a_step_without_a_pair_is_no_loss_of_0(dataset, memory, caplog):
    """It would make the mean of the epoch look better; an epoch without any has none, and says so."""

    def rows(unsure):
        seed_everything(0)
        config = dataclasses.replace(CONFIG, epochs=2, warmup_epochs=0, batch_size=2, lr=1e-12, lr_floor=0.0, **memory)
        chosen = Unsure(method().config, unsure)
        training = Training(host(), chosen, dataset, config, 0, device=CPU)
        if memory:
            training.pieces.size = 1
        found = []
        training.run(report=found.append)
        return found

    alone = [rows({0, 1, 2} - {step})[0]["train/affinity_loss"] for step in (0, 1, 2)]
    assert min(alone) > 0
    assert rows(set())[0]["train/affinity_loss"] == pytest.approx(sum(alone) / 3)
    assert rows({1})[0]["train/affinity_loss"] == pytest.approx((alone[0] + alone[2]) / 2)
    caplog.clear()
    first, second = rows({0, 1, 2})
    assert "train/affinity_loss" not in first
    assert first["train/uncertain_share"] == 1
    assert second["train/affinity_loss"] > 0
    assert caplog.messages == ["epoch 1: no step had anything to make train/affinity_loss from: it taught nothing"]
