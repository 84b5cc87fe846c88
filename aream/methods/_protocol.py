"""What a method adds to its host: loss terms after the warm-up.

A module here holds ``Config``, ``resolve(config, depth) -> Config`` (named layer subsets made explicit, so that
equal choices have one identity), ``needs_entropy(config)`` (whether the per-layer entropies of a plainly trained
host must be measured first) and ``build(config, entropies) -> Method``.

It may hold ``check_host(name, config)``, which raises ConfigError for a backbone that it makes no sense on, and
``TRAINS_AS``, the name of a method whose training is the same for a resolved configuration: one training serves both.
``losses(config)`` names the terms that the method adds, where there are any: a scheduler may go by them.
A field ``layer_index`` of ``Config`` says where an inference that names shallow or deep layers splits; without one it
is the backbone's published split. A method that needs entropies has the fields ``entropy_map``, ``entropy_input`` and
``entropy_prob`` (see ``aream.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from aream.backbones._protocol import Backbone, BackboneOutput
from aream.batches import Batch
from aream.ranks import ALONE, Ranks

Losses = Callable[[BackboneOutput], dict[str, Float[Tensor, ""]]]
"""Weighted scalar terms by name, from the training output of the images they were made for."""


@runtime_checkable
class Method(Protocol):
    def losses_of_parts(self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE) -> Sequence[Losses]:
        """Terms added to the classification loss once the warm-up is over, one function a part of a batch.

        Over the parts of all ranks, terms and gradients sum to those of the whole batch. The usual batch is one part;
        it has more where memory does not hold it at once, so no graph is kept from one part to the next.
        """
