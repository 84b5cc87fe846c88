from __future__ import annotations

import numpy as np
import psa_oracles
import pytest
import torch

from aream.affinity_net.network import affinities
from aream.affinity_net.random_walk import random_walk
from aream.errors import ConfigError
from aream.refiners import psa
from benchmarks.published import psa_walk


@pytest.mark.parametrize("size", [(7, 11), (5, 9), (9, 10), (4, 12), (12, 8), (3, 2), (1, 1)])
@pytest.mark.parametrize("logt", [0, 1, 4])
def test_equals_the_dense_matrix_power(size, logt):
    """Border positions are partners but no sources; a grid without sources stays as it is."""
    rng = np.random.default_rng(0)
    features, maps = rng.normal(size=(3, *size)), rng.random((2, *size))
    expected = psa_oracles.walk(psa_oracles.affinities(features), maps, 2.5, logt)
    values = affinities(torch.tensor(features)[None])
    found = random_walk(values, torch.tensor(maps)[None], beta=2.5, logt=logt)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    if min(size[0] - 4, size[1] - 8) < 1:
        np.testing.assert_allclose(found, maps, atol=1e-12)


def test_single_precision_stays_near_the_published_form():
    generator = torch.Generator().manual_seed(0)
    values, maps = torch.rand(1, 34, 12, 14, generator=generator), torch.rand(1, 3, 16, 22, generator=generator)
    expected = psa_walk(values[0].double(), maps[0].double(), 8, 6)
    found = random_walk(values, maps, beta=8.0, logt=6)[0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_images_of_a_batch_walk_alone():
    values, maps = torch.rand(2, 34, 3, 4), torch.rand(2, 3, 7, 12)
    both = random_walk(values, maps, beta=8.0, logt=3)
    alone = [random_walk(values[i : i + 1], maps[i : i + 1], beta=8.0, logt=3) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize(("beta", "logt", "key"), [(0.0, 6, "beta"), (8.0, -1, "logt"), (8.0, 13, "logt")])
def test_impossible_walks_are_refused(beta, logt, key):
    with pytest.raises(ConfigError, match=f"{key}: need"):
        psa.Config(beta=beta, logt=logt)
