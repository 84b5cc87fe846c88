"""What a method adds to its host: loss terms after the warm-up.

A module here holds ``Config``, ``resolve(config, depth) -> Config`` (named layer subsets made explicit, so that
equal choices have one identity), ``needs_entropy(config)`` (whether the per-layer entropies of a plainly trained
host must be measured first) and ``build(config, entropies) -> Method``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from aream.backbones._protocol import Backbone, BackboneOutput
from aream.batches import Batch


@runtime_checkable
class Method(Protocol):
    def auxiliary_losses(
        self, backbone: Backbone, batch: Batch, output: BackboneOutput
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted scalar terms by name, added to the classification loss once the warm-up is over."""
