"""Strength of a method's terms beside the host's own, where both meet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from aream.engine.ranks import Ranks


class GradientShare:
    """Gradients of the two on some of the host's parameters, in one step; its graph is kept for the step itself."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        zeros = [torch.zeros_like(part, dtype=torch.float32) for part in self.parameters]
        self.of_host, self.of_method = zeros, [part.clone() for part in zeros]

    def add(self, host_loss: Float[Tensor, ""], method_loss: Float[Tensor, ""]) -> None:
        """Add the gradients of a part of the batch; both losses are scaled alike."""
        for loss, sums in ((host_loss, self.of_host), (method_loss, self.of_method)):
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
            for total, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    total += gradient

    def measures(self, ranks: Ranks) -> dict[str, Float64[Tensor, ""]]:
        """``train/method_gradient``: norm of the method's gradient as a multiple of the host's, over the whole batch.

        Nothing where the host's own loss has no gradient there, or numbers overflow: there is nothing to compare with.
        """
        ranks.add([*self.of_host, *self.of_method])
        host, method = (float(torch.nn.utils.get_total_norm(part)) for part in (self.of_host, self.of_method))
        ratio = method / host if host > 0 else float("nan")
        if not 0 <= ratio < float("inf"):
            return {}
        return {"train/method_gradient": torch.tensor(ratio, dtype=torch.float64)}
