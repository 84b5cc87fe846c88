"""The published step that ours is measured against computes the same loss."""

from __future__ import annotations

import torch

from aream.layers import first_deep_layer
from aream.methods import aream
from benchmarks.published_step import PublishedAReAM
from benchmarks.step_cost import WAYS, Case, _difference, drawn_batch, training_of

SIZE = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 4, "heads": 2}


def test_the_published_step_has_our_loss():
    cpu = torch.device("cpu")
    case = Case("tiny", "mctformer_v2", SIZE, 64, batch=2, repeats=1, published=True)
    config = aream.resolve(WAYS["flip"], 4)
    assert config.supervised_layers == tuple(range(first_deep_layer(4, None), 4))
    ours, theirs = (training_of(case, method, cpu) for method in (aream.build(config), PublishedAReAM(config)))
    batch = drawn_batch(ours, case)
    assert _difference(ours, theirs, batch) < 1e-4
    theirs.train_step(batch)
    assert all(parameter.isfinite().all() for parameter in theirs.backbone.parameters())
