"""What every method must do; used on those there are, and on those that are added."""

from __future__ import annotations

import json

import pytest
import torch

from aream.config import canonical
from aream.methods.protocol import HostShape, Method


def check_method(module, config, host, batch) -> None:
    """Layers named once, finite scalar terms, and the same terms from a batch in pieces; the host is left as it was."""
    resolved = module.resolve(config, host.depth)
    assert module.resolve(resolved, host.depth) == resolved
    json.dumps(canonical(resolved))
    entropies = torch.linspace(3, 1, host.depth) if module.needs_entropy(resolved) else None
    method = module.build(resolved, entropies, HostShape.of(host, batch.labels.shape[1], batch.images.shape[2]))
    assert isinstance(method, Method)
    assert set(method.supervised_layers()) <= set(range(host.depth))
    assert bool(method.supervised_layers()) == getattr(module, "SUPERVISES_LAYERS", False)
    training = host.training
    whole = _terms(method, host, [batch])
    declared = module.losses(resolved) if hasattr(module, "losses") else ()
    shown = module.measures(resolved) if hasattr(module, "measures") else ()
    assert set(whole) == {*declared, *(f"{name} share" for name in shown)}
    assert all(value == value and abs(value) < float("inf") for value in whole.values())
    assert all(0 <= value <= 1 for name, value in whole.items() if name.endswith(" share"))
    assert _terms(method, host, batch.split(1)) == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert host.training == training


def _terms(method, host, parts) -> dict[str, float]:
    sums: dict[str, float] = {}
    for part, losses in zip(parts, method.losses_of_parts(host, parts), strict=True):
        terms = losses(host(part.images))
        for name, term in terms.losses.items():
            assert term.shape == ()
            sums[name] = sums.get(name, 0.0) + term.item()
        for name, value in terms.measures.items():
            share = len(part.ids) / len(part.all_ids)
            sums[f"{name} share"] = sums.get(f"{name} share", 0.0) + value * share
    return sums
