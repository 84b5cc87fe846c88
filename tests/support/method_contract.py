"""What every method must do; used on those there are, and on those that are added."""

from __future__ import annotations

import json

import pytest
import torch

from aream.config import canonical
from aream.methods.protocol import HostShape, Method, says


def check_method(module, config, host, batch) -> None:
    """Layers named once, finite scalar terms, and the same terms from a batch in pieces; the host is left as it was."""
    resolved = module.resolve(config, host.depth)
    assert module.resolve(resolved, host.depth) == resolved
    json.dumps(canonical(resolved))
    entropies = torch.linspace(3, 1, host.depth) if module.needs_entropy(resolved) else None
    method = module.build(resolved, entropies, HostShape.of(host, batch.labels.shape[1], batch.images.shape[2]))
    assert isinstance(method, Method)
    assert set(method.supervised_layers()) <= set(range(host.depth))
    assert bool(method.supervised_layers()) == says(module, "SUPERVISES_LAYERS", resolved)
    training = host.training
    whole = _terms(method, host, [batch])
    declared = module.losses(resolved) if hasattr(module, "losses") else ()
    shown = module.measures(resolved) if hasattr(module, "measures") else ()
    assert set(whole) == {*declared, *(f"{name} share" for name in shown)}
    assert all(value == value and abs(value) < float("inf") for value in whole.values())
    assert all(0 <= value <= 1 for name, value in whole.items() if name.endswith(" share"))
    assert _terms(method, host, batch.split(1)) == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert host.training == training
    assert hasattr(method, "localise") == says(module, "LOCALISES", resolved)
    if hasattr(method, "localise"):
        _check_maps(method, host, batch)


def _check_maps(method, host, batch) -> None:
    """A map of each class that is named, in that order, of each image alone; gradients stay inside."""
    host.eval()
    for parameter in host.parameters():
        parameter.grad = None
    classes = torch.tensor([[1, 0, 1], [2, 1, 0]])
    with torch.no_grad():
        output, maps = method.localise(host, batch.images, classes)
        _, turned = method.localise(host, batch.images.flip(0), classes[:, [1]])
    assert maps.shape == (2, 3, *output.grid)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    torch.testing.assert_close(maps[0, 0], maps[0, 2])
    torch.testing.assert_close(turned[1, 0], method.localise(host, batch.images[:1], classes[1:, [1]])[1][0, 0])
    torch.testing.assert_close(output.scores, host(batch.images).scores)
    assert all(parameter.grad is None for parameter in host.parameters())


def _terms(method, host, parts) -> dict[str, float]:
    sums: dict[str, float] = {}
    for part, losses in zip(parts, method.losses_of_parts(host, parts), strict=True):
        terms = losses(host(part.images))
        for name, term in terms.losses.items():
            assert term.shape == ()
            sums[name] = sums.get(name, 0.0) + term.item()
        for name, value in terms.measures.items():
            share = len(part.ids) / len(part.all_ids)
            sums[f"{name} share"] = sums.get(f"{name} share", 0.0) + value.item() * share
    return sums
