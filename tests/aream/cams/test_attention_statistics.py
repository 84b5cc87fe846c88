from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aream.cams.affinity import LayerQK, attention, patch_affinity
from aream.cams.attention_statistics import (
    column_mass,
    effective_rank,
    gini,
    hellinger_distance,
    logarithmic,
    top_columns,
)


def distributions(seed: int, n: int, keys: int) -> torch.Tensor:
    """Rows over ``keys``, some entries 0."""
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(2, n, keys)) * (rng.random((2, n, keys)) < 0.7) + 1e-9
    return torch.from_numpy(weights / weights.sum(axis=2, keepdims=True))


def test_attention_has_all_keys_and_the_affinity_among_them():
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, 3, 2 + 5, 4, generator=generator) for _ in range(2))
    layer = LayerQK(queries, keys)
    found = attention(layer, slice(2, None), slice(None))
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 5))
    torch.testing.assert_close(found[:, :, 2:], patch_affinity(layer, 2))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 5), more=st.integers(0, 3))
def test_hellinger_against_the_equation(seed, n, more):
    attention = distributions(seed, n, n + more)
    found = hellinger_distance(attention)
    for image in range(2):
        distances = []
        for i in range(n):
            for j in range(n):
                if i == j:
                    continue
                squares = 0.0
                for key in range(n + more):
                    squares += (
                        math.sqrt(float(attention[image, i, key])) - math.sqrt(float(attention[image, j, key]))
                    ) ** 2
                distances.append(math.sqrt(squares) / math.sqrt(2))
        assert float(found[image]) == pytest.approx(sum(distances) / len(distances), abs=1e-7)


def test_hellinger_of_patches_that_attend_alike_to_themselves_and_alone():
    alike = torch.full((1, 6, 8), 1 / 8)
    assert float(hellinger_distance(alike)) == pytest.approx(0, abs=1e-7)
    assert float(hellinger_distance(torch.eye(6)[None])) == pytest.approx(1)
    assert float(hellinger_distance(torch.ones(1, 1, 1))) == 0


def test_rows_that_differ_in_the_fourth_digit_are_told_apart():
    attention = torch.full((1, 2, 2), 0.5, dtype=torch.float64)
    attention[0, 1] = torch.tensor([0.5 + 1e-4, 0.5 - 1e-4])
    exact = math.sqrt(sum((math.sqrt(0.5) - math.sqrt(0.5 + s * 1e-4)) ** 2 for s in (1, -1)) / 2)
    assert float(hellinger_distance(attention)) == pytest.approx(exact, rel=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
def test_effective_rank_against_the_singular_value_decomposition(seed, n):
    affinity = distributions(seed, n, n)
    for image, found in enumerate(effective_rank(affinity).tolist()):
        singular = np.linalg.svd(affinity[image].numpy(), compute_uv=False).tolist()
        entropy = 0.0
        for value in singular:
            share = value / sum(singular)
            entropy -= share * math.log(share) if share > 0 else 0.0
        assert found == pytest.approx(math.exp(entropy), rel=1e-4)


@pytest.mark.parametrize("n", [1, 7])
def test_rank_of_uniform_identity_and_nothing(n):
    maps = torch.stack([torch.full((n, n), 1 / n), torch.eye(n), torch.zeros(n, n)])
    assert effective_rank(maps).tolist() == pytest.approx([1, n, 0], abs=1e-6)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
def test_mass_and_gini_against_loops(seed, n):
    affinity = distributions(seed, n, n)
    masses = column_mass(affinity)
    for image in range(2):
        columns = [sum(float(affinity[image, row, column]) for row in range(n)) / n for column in range(n)]
        assert masses[image].tolist() == pytest.approx(columns)
        gaps = sum(abs(a - b) for a in columns for b in columns)
        assert float(gini(masses)[image]) == pytest.approx(gaps / (2 * n * sum(columns)), abs=1e-9)


def test_gini_of_equal_columns_of_one_and_of_none():
    one = torch.zeros(8)
    one[3] = 0.5
    found = gini(torch.stack([torch.full((8,), 0.1), one, torch.zeros(8)]).double())
    assert found.tolist() == pytest.approx([0, 7 / 8, 0], abs=1e-12)


def test_top_columns_count_attention_on_objects_where_something_is_labelled():
    mass = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).double()
    foreground = torch.tensor([[1.0, 0.5, 0.0, 1.0]]).double()
    everything = torch.ones(1, 4, dtype=torch.bool)
    found = top_columns(mass, foreground, everything, 2)
    assert float(found.foreground) == pytest.approx(0.4 * 0.5 / 0.7)
    assert float(found.everywhere) == pytest.approx(2.5 / 4)
    partly = torch.tensor([[True, False, True, True]])
    found = top_columns(mass, foreground, partly, 2)
    assert float(found.foreground) == pytest.approx(0.2 / 0.5)  # the second column is not known
    assert float(found.everywhere) == pytest.approx(2 / 3)


def test_top_columns_more_than_there_are_and_nothing_labelled():
    mass, foreground = torch.tensor([[0.25, 0.75]]).double(), torch.tensor([[0.0, 1.0]]).double()
    assert float(top_columns(mass, foreground, torch.ones(1, 2, dtype=torch.bool), 9).foreground) == 0.75
    assert top_columns(mass, foreground, torch.zeros(1, 2, dtype=torch.bool), 1).foreground.isnan().all()


def test_a_picture_is_logarithmic_between_its_extremes():
    affinity = torch.tensor([[0.1, 0.01], [0.001, 0.0]])
    expected = [[1.0, 0.75], [0.5, 0.0]]  # decades above 1e-5, which is 1e-4 of the largest
    torch.testing.assert_close(logarithmic(affinity), torch.tensor(expected).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_picture_of_a_constant_map_is_empty(value):
    assert logarithmic(torch.full((3, 3), value)).tolist() == [[0.0] * 3] * 3
