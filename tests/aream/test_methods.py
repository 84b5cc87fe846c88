from __future__ import annotations

import pytest
import torch
from method_contract import check_method

from aream import discover, methods
from aream.backbones import mctformer_v2
from aream.backbones._protocol import BackboneOutput, LayerQK
from aream.batches import Batch
from aream.errors import ConfigError
from aream.methods import aream

DEPTH = 3


@pytest.fixture
def host():
    torch.manual_seed(0)
    config = mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=DEPTH, heads=3, drop_path=0.0)
    return mctformer_v2.build(config, 4, 32)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]])
    return Batch(images=torch.randn(2, 3, 32, 32, generator=generator), labels=labels, ids=("a", "b"))


def losses_of(method, host, batch, output):
    (losses,) = method.losses_of_parts(host, [batch])
    return losses(output)


def losses(host, batch, entropies=None, **changes):
    method = aream.build(aream.resolve(aream.Config(**changes), DEPTH), entropies)
    output = host(batch.images)
    return output, losses_of(method, host, batch, output)


@pytest.mark.parametrize("name", discover.names(methods))
def test_contract(name, host, batch):
    module = discover.load(methods, name)
    check_method(module, module.Config(), host, batch)


@pytest.mark.parametrize("mode", ["eval", "train", "online"])
def test_gradients_reach_the_host_through_the_affinity_logits_alone(host, batch, mode):
    """Cutting the supervised queries and keys off leaves nothing to differentiate: labels pass no gradient."""
    method = aream.build(aream.resolve(aream.Config(label_mode=mode), DEPTH))
    output = host(batch.images)
    cut = BackboneOutput(
        logits=output.logits,
        cam=output.cam,
        layers=[LayerQK(layer.queries.detach(), layer.keys.detach()) for layer in output.layers],
    )
    assert not losses_of(method, host, batch, cut)["affinity"].requires_grad
    losses_of(method, host, batch, output)["affinity"].backward()
    assert host.blocks[method.supervised[-1]].attn.qkv.weight.grad.abs().sum() > 0
    assert host.head.weight.grad is None


def test_the_label_pass_leaves_the_random_stream_and_the_mode_alone(host, batch):
    host.train()
    before = torch.random.get_rng_state()
    losses(host, batch, label_mode="eval")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert host.training


def test_an_image_without_classes_gives_no_foreground_and_no_nan(host, batch):
    empty = Batch(images=batch.images, labels=torch.zeros_like(batch.labels), ids=batch.ids)
    _, terms = losses(host, empty)
    assert terms["affinity"].isfinite()


def test_the_weight_scales_the_loss(host, batch):
    _, one = losses(host, batch, affinity_weight=0.1)
    _, two = losses(host, batch, affinity_weight=0.2)
    torch.testing.assert_close(two["affinity"], 2 * one["affinity"])


def test_offline_weights_need_entropies_and_change_the_loss(host, batch):
    with pytest.raises(ConfigError, match="entropies"):
        losses(host, batch, weights="entropy_offline")
    # A deep layer as certain as the surest of all (w = 1) is held to nothing: its loss weight 1 - w is 0.
    _, none = losses(host, batch, torch.tensor([3.0, 2.0, 1.0]), weights="entropy_offline", supervised_layers=(2,))
    _, most = losses(host, batch, torch.tensor([1.0, 2.0, 3.0]), weights="entropy_offline", supervised_layers=(2,))
    _, plain = losses(host, batch, supervised_layers=(2,))
    values = sorted(term["affinity"].item() for term in (none, most))
    assert values[0] == pytest.approx(0.0, abs=1e-7)
    assert values[1] > 0
    assert plain["affinity"] > 0
