"""The method's gradient against the host's, both by derivatives written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from aream.engine.gradient_share import GradientShare
from aream.engine.ranks import ALONE


def parameters() -> dict[int, list[Parameter]]:
    return {1: [Parameter(torch.tensor([3.0, 4.0]))], 2: [Parameter(torch.tensor(2.0))]}


def stepped(layers, parts, taught_from=0):
    """What a step measures whose host loss is a, and method loss b times half the square of each parameter, for every
    part (a, b) of its batch."""
    share = GradientShare(layers)

    def squares(factor: float, first: int) -> torch.Tensor:
        return sum(
            (factor * part.square().sum() / 2 for n in layers if n >= first for part in layers[n]), torch.zeros(())
        )

    for host, method in parts:
        share.add(squares(method, 0), taught_from)
        (squares(host, 0) + squares(method, taught_from)).backward()
    return share.measures(ALONE)


@pytest.mark.parametrize("parts", [[(2.0, 0.5)], [(1.0, 0.25), (1.0, 0.25)], [(2.0, 0.0), (0.0, 0.5)]])
def test_the_parts_of_a_batch_add_up(parts):
    assert stepped(parameters(), parts)["train/method_gradient"].item() == pytest.approx(0.25, rel=1e-6)


def test_layers_that_a_term_does_not_teach_count_for_the_host_alone():
    found = stepped(parameters(), [(2.0, 0.5)], taught_from=2)["train/method_gradient"].item()
    assert found == pytest.approx(0.5 * 2 / (2 * (3**2 + 4**2 + 2**2) ** 0.5), rel=1e-6)
    assert stepped(parameters(), [(2.0, 0.5)], taught_from=3)["train/method_gradient"].item() == 0


def test_a_method_without_any_gradient_pulls_by_nothing():
    assert stepped(parameters(), [(2.0, 0.0)])["train/method_gradient"].item() == 0
    layers = parameters()
    share = GradientShare(layers)
    share.add(torch.zeros(()), 0)
    (layers[1][0].sum() + layers[2][0]).backward()
    assert share.measures(ALONE)["train/method_gradient"].item() == 0


@pytest.mark.parametrize("part", [(0.0, 0.5), (1e-9, 0.5), (1.0, float("inf")), (float("nan"), 0.5)])
def test_nothing_is_reported_where_there_is_nothing_to_compare_with(part):
    assert stepped(parameters(), [part]) == {}


def test_nothing_is_reported_without_a_term_to_compare():
    layers = parameters()
    share = GradientShare(layers)
    layers[1][0].sum().backward()
    assert share.measures(ALONE) == {}
