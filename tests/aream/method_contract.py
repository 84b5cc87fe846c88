"""What every method must do; used on those there are, and on those that are added."""

from __future__ import annotations

import json

import pytest
import torch

from aream.config import canonical
from aream.methods._protocol import Method


def check_method(module, config, host, batch) -> None:
    """Layers named once, finite scalar terms, and the same terms from a batch in pieces; the host is left as it was."""
    resolved = module.resolve(config, host.depth)
    assert module.resolve(resolved, host.depth) == resolved
    json.dumps(canonical(resolved))
    entropies = torch.linspace(3, 1, host.depth) if module.needs_entropy(resolved) else None
    method = module.build(resolved, entropies)
    assert isinstance(method, Method)
    training = host.training
    whole = _terms(method, host, [batch])
    declared = module.losses(resolved) if hasattr(module, "losses") else ()
    assert set(whole) == set(declared)
    assert all(value == value and abs(value) < float("inf") for value in whole.values())
    assert _terms(method, host, batch.split(1)) == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert host.training == training


def _terms(method, host, parts) -> dict[str, float]:
    sums: dict[str, float] = {}
    for part, losses in zip(parts, method.losses_of_parts(host, parts), strict=True):
        for name, term in losses(host(part.images)).items():
            assert term.shape == ()
            sums[name] = sums.get(name, 0.0) + term.item()
    return sums
