"""Methods with a network of their own: trained with the host, over ranks, in pieces and after an interruption."""

from __future__ import annotations

import dataclasses

import added_methods
import pytest
import torch
from method_contract import check_method
from small_networks import CONFIG, CPU, NETWORKS, host, timm_host
from thread_ranks import check_ranks_add_up, whole_batch

from aream import discover, methods
from aream.config import Component
from aream.datasets import shapes
from aream.engine.checkpoints import Checkpoints
from aream.errors import Interrupted
from aream.methods.protocol import HostShape
from aream.train import Training
from workers.components import build_method

PROBED = dataclasses.replace(CONFIG, epochs=3, head_lr_scale=10.0)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    added_methods.add_to(monkeypatch)


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=14, val_images=7))


def method(of, seed: int = 0, **changes):
    config = discover.load(methods, "token_probe").Config(**changes)
    return build_method(Component(name="token_probe", config=config), of, 6, 32, seed=seed)


def training(dataset, backbone=None, config=PROBED, **options) -> Training:
    backbone = backbone or host()
    made = method(backbone)
    torch.manual_seed(1)
    return Training(backbone, made, dataset, config, 0, device=CPU, **options)


def same(one: Training, other: Training) -> bool:
    first, second = (list(each.networks.state_dict().values()) for each in (one, other))
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_contract(network):
    module = discover.load(methods, "token_probe")
    batch = whole_batch(2)
    batch = dataclasses.replace(batch, images=batch.images.float(), labels=batch.labels.float())
    check_method(module, module.Config(), network(), batch)


def test_its_weights_come_from_a_seed_of_its_own():
    backbone = host()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = method(backbone).network.state_dict()
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(6)
    again, other = method(backbone).network.state_dict(), method(backbone, seed=1).network.state_dict()
    assert torch.equal(first["linear.weight"], again["linear.weight"])
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_it_learns_as_fast_as_heads_and_its_biases_do_not_decay(dataset):
    made = training(dataset)
    network = {id(parameter) for parameter in made.method.network.parameters()}
    groups = [group for group in made.optimizer.param_groups if {id(each) for each in group["params"]} & network]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (PROBED.lr * 10, PROBED.weight_decay),
        (PROBED.lr * 10, 0.0),
    ]
    assert made.optimizer.param_groups[-2:] == groups


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(dataset, steps):
    """Two steps an epoch, of which the first has no method: the checkpoint is of the warm-up, of the next epoch, of its
    end."""
    rows, again = [], []
    straight = training(dataset)
    straight.run(report=rows.append)
    saved, left = {}, iter(range(steps))
    first = training(dataset)
    with pytest.raises(Interrupted):
        first.run(report=again.append, checkpoints=Checkpoints(saved.update, stop=lambda: next(left, None) is None))
    second = training(dataset)
    with torch.no_grad():
        second.method.network.linear.weight.fill_(torch.nan)
    second.restore(saved)
    again = list(second.history)
    second.run(report=again.append)
    assert again == rows
    assert same(second, straight)
    assert straight.method.network.steps == 4


def test_a_state_without_it_leaves_it_as_it_is(dataset):
    """That of a shared warm-up."""
    straight, plain = training(dataset), Training(host(), None, dataset, PROBED, 0, device=CPU)
    straight.run(report=lambda row: None)
    torch.manual_seed(1)
    plain.run(1, report=lambda row: None)
    forked = training(dataset)
    forked.restore(plain.state())
    forked.run(report=lambda row: None)
    assert same(forked, straight)


def test_the_weights_of_the_best_epoch_are_kept_of_both(dataset, monkeypatch):
    made = training(dataset)
    maps = [0.1, 0.9, 0.2]
    monkeypatch.setattr(made, "judged", lambda found: dict.fromkeys(("val/map", "val/map_image"), maps[made.epoch]))
    seen = []
    made.run(report=lambda row: seen.append(made.method.network.linear.weight.detach().clone()))
    kept, _, epoch = made.selected()
    assert set(kept) == {"model", "method"}
    assert (epoch, kept["method"]["steps"].item()) == (2, 2)
    assert torch.equal(kept["method"]["linear.weight"], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("size", "pieces"), [(1, 2), (1, 1), (2, 7), (3, 1)])
@pytest.mark.filterwarnings("ignore:.*")
def test_gradients_of_ranks_and_pieces_add_up(dataset, network, size, pieces):
    def prepared() -> Training:
        made = training(dataset, NETWORKS[network]())
        made.networks.double().train()
        made.epoch = 1
        return made

    check_ranks_add_up(prepared, size, pieces, rel=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_step_done_again_in_pieces_counts_once(dataset):
    made = training(dataset, host(most=2), dataclasses.replace(PROBED, out_of_memory="accumulate"))
    made.run(report=lambda row: None)
    assert made.pieces.size == 1
    assert made.method.network.steps == 4


def test_a_host_that_it_is_not_made_for_is_refused():
    with pytest.raises(Exception, match="method: token_probe tells at most 100"):
        build_method(Component(name="token_probe", config=None), timm_host(), 101, 32)
    assert HostShape.of(timm_host(), 6, 32) == HostShape(12, 6, 3, 1, slice(0, 1), 8, 32)
