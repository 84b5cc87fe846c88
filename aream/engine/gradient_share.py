"""Strength of a method's terms beside the host's own, where both meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from aream.engine.ranks import Ranks

ROUNDING = 1e-6
"""Share of the method's gradient below which a rest is what float32 loses of it, not a gradient of the host."""


class GradientShare:
    """The method's own gradient on some of the host's parameters in one step. The step's graph is kept for the step
    itself, whose gradients less these are the host's."""

    def __init__(self, layers: Mapping[int, Sequence[torch.nn.Parameter]]) -> None:
        """``layers``: parameters of each of the host's layers that the two are compared on."""
        self.parameters = [(layer, part) for layer, parts in layers.items() for part in parts]
        self.of_method: list[Tensor | None] = [None for _ in self.parameters]
        self.compared = False

    def add(self, loss: Float[Tensor, ""], taught_from: int) -> None:
        """Add the gradients of a part of the batch, scaled as the step's; layers before ``taught_from`` get none."""
        self.compared = True
        taught = [index for index, (layer, _) in enumerate(self.parameters) if layer >= taught_from]
        if not taught or not loss.requires_grad:
            return
        parameters = [self.parameters[index][1] for index in taught]
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for index, gradient in zip(taught, found, strict=True):
            if gradient is not None:
                before = self.of_method[index]
                self.of_method[index] = gradient if before is None else before + gradient

    def measures(self, ranks: Ranks) -> dict[str, Float64[Tensor, ""]]:
        """``train/method_gradient``: norm of the method's gradient as a multiple of the host's, over the whole batch.
        Called when the parameters have the step's gradients, of all ranks.

        Nothing where the method has no such term or the host's own loss no gradient there, or numbers overflow: there
        is nothing to compare.
        """
        if not self.compared:
            return {}
        steps = [torch.zeros_like(part) if part.grad is None else part.grad for _, part in self.parameters]
        pairs = zip(self.of_method, steps, strict=True)
        own = [torch.zeros_like(step) if part is None else part.clone() for part, step in pairs]
        ranks.add(own)
        rest = [step - part for step, part in zip(steps, own, strict=True)]
        host, method = (float(torch.nn.utils.get_total_norm(part)) for part in (rest, own))
        if not (host > ROUNDING * method and method < float("inf")):
            return {}
        return {"train/method_gradient": torch.tensor(method / host, dtype=torch.float64)}
