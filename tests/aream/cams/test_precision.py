"""Maps are made in 32 bits where the network runs in 16: the same under autocast as without it, for the same inputs."""

from __future__ import annotations

import pytest
import torch

from aream.cams.affinity import LayerQK, map_entropy, patch_affinity
from aream.cams.maps import refine
from aream.methods import _attention_consistency, _gradient_maps


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYER = LayerQK(3 * drawn(2, 3, 11, 8), 3 * drawn(2, 3, 11, 8), values=drawn(2, 3, 11, 8))
CAM, PRESENT = drawn(2, 4, 3, 3).relu(), torch.ones(2, 4, dtype=torch.bool)
ROWS = torch.tensor([[0, 1]])
MAPS = {
    "affinity": lambda: patch_affinity(LAYER, 2),
    "refined": lambda: refine(CAM, patch_affinity(LAYER, 2)),
    "entropy of positions": lambda: map_entropy(patch_affinity(LAYER, 2), CAM, PRESENT),
    "entropy of shares": lambda: map_entropy(patch_affinity(LAYER, 2), CAM, PRESENT, entropy_prob="sum"),
    "consistency": lambda: _attention_consistency.mean_map((LAYER.queries, LAYER.keys), 11),
    "gradient": lambda: _gradient_maps._map(LAYER, drawn(1, 2, 3, 11, 8), ROWS, 2, "gradient"),
    "gradient times attention": lambda: _gradient_maps._map(
        LAYER, drawn(1, 2, 3, 11, 8), ROWS, 2, "attention_gradient"
    ),
}


@pytest.mark.parametrize("what", MAPS)
def test_maps_are_the_same_under_autocast(what):
    expected = MAPS[what]()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(MAPS[what](), expected)


def test_what_a_network_gives_in_16_bits_is_multiplied_in_32():
    narrow = LayerQK(LAYER.queries.bfloat16(), LAYER.keys.bfloat16())
    wide = LayerQK(narrow.queries.float(), narrow.keys.float())
    cam = CAM.bfloat16()
    assert torch.equal(refine(cam, patch_affinity(narrow, 2)), refine(cam.float(), patch_affinity(wide, 2)))
