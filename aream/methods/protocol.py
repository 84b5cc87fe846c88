"""Contract of a method, which adds loss terms to its host after the warm-up.

A module here holds ``Config``, ``resolve(config, depth) -> Config`` (named layer subsets made explicit, so that
equal choices have one identity), ``needs_entropy(config)`` (whether the per-layer entropies of a plainly trained
host must be measured first) and ``build(config, entropies=None, host=None) -> Method``, which gets the host's
:class:`HostShape` wherever it is built to be used and draws a network's weights from torch's generator.
It raises ConfigError for a host that its network is not made for: a sweep is told so before anything runs.

It may hold ``check_host(config, host, host_config)``, which raises ConfigError for a backbone, named with its own
configuration, that it makes no sense on, and
``TRAINS_AS``, the name of a method whose training is the same for a resolved configuration: one training serves both.
``LOCALISES`` says that what ``build`` returns finds its own maps of classes; see :class:`Localiser`. Of a resolved
configuration ``of_training(config)`` is the one that all share which differ in how maps are found alone.
``SEGMENTS`` says that it also segments by itself; see :class:`SegmentingMethod`.
``losses(config)`` names the terms that the method adds, where there are any: a scheduler may go by them.
``measures(config)`` names the shares that it reports beside them, and ``SUPERVISES_LAYERS`` says that the gradient of
its terms is held against the host's own on the layers that they act on. Flags may be functions of the configuration.
A field ``layer_index`` of ``Config`` says where an inference that names shallow or deep layers splits; without one it
is the backbone's published split. A method that needs entropies has the fields ``entropy_map``, ``entropy_input`` and
``entropy_prob`` (see ``aream.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.maps import pick_maps
from aream.engine.batches import Batch
from aream.engine.ranks import ALONE, Ranks


@dataclass(frozen=True)
class HostShape:
    """Shape of the host that a method's own network is made for."""

    dim: int
    """Width of a token."""
    classes: int
    """Foreground classes."""
    depth: int
    prefix_tokens: int
    class_rows: slice | None
    patch_size: int
    """Pixels a patch side; these four as in :class:`aream.backbones.protocol.Backbone`."""
    image_size: int
    """Side of the square training images, pixels."""

    @classmethod
    def of(cls, host: Backbone, classes: int, image_size: int) -> HostShape:
        own = (host.dim, classes, host.depth, host.prefix_tokens, host.class_rows, host.patch_size)
        return cls(*own, image_size)


@dataclass(frozen=True)
class Progress:
    """Place of a training in the steps that follow its warm-up."""

    step: int = 0
    """Number of the step, from 0."""
    steps: int = 1
    """Number of all steps."""

    @property
    def share(self) -> float:
        """Share of the steps that is done, in [0, 1): losses that begin or change in stages go by it."""
        return self.step / self.steps


@dataclass(frozen=True)
class Terms:
    losses: dict[str, Float[Tensor, ""]]
    """Weighted scalar terms by name."""
    measures: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    """Shares in [0, 1] that say what the terms were made from, for people; each a mean over the images."""
    taught_from: dict[str, int] = field(default_factory=dict)
    """First layer of the host that gets any gradient, for terms whose gradient ends in the host, by the term's name.
    Parameters of shallower layers, and heads, get none; the method's own network gets all."""
    classifying: frozenset[str] = frozenset()
    """Names of terms that are classification losses too: where the method's gradient is held against the host's own,
    theirs belongs to the latter."""
    applies: dict[str, Bool[Tensor, ""]] = field(default_factory=dict)
    """Whether the whole batch has anything that a term is made of, by the term's name; those not named always do. Where
    it has nothing, the step is left out of the mean that is reported of an epoch."""

    def figures(self) -> dict[str, Float[Tensor, ""]]:
        """The losses as they are reported: NaN where a term has nothing that it is made of."""
        return {
            name: term.where(self.applies[name], torch.nan) if name in self.applies else term
            for name, term in self.losses.items()
        }


FIRST = Progress()
Losses = Callable[[BackboneOutput], Terms]
"""Function from the training output of the images that the terms were made for to the terms."""


@runtime_checkable
class Method(Protocol):
    @property
    def network(self) -> torch.nn.Module | None:
        """Network trained with the host, with ``train.head_lr_scale``, and stored beside it; None: the method has none.
        Every part of a batch gives gradient to the same of its parameters."""

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        """Terms added to the classification loss once the warm-up is over, one function a part of a batch.

        Over the parts of all ranks, terms and gradients sum to those of the whole batch. The usual batch is one part;
        it has more where memory does not hold it at once, so no graph is kept from one part to the next.
        """

    def supervised_layers(self) -> Sequence[int]:
        """Layers of the host that the terms act on: there their gradient is held against that of the host's own loss.
        None: nothing is compared."""


Located = tuple[BackboneOutput, Float[Tensor, "b k h w"]]
Localise = Callable[[Backbone, Float[Tensor, "b 3 height width"], Int64[Tensor, "b k"]], Located]
"""The host's outputs of images, and the map of each class that is named for an image, 0-based, in that order."""


class Localiser(Protocol):
    """Part that a method with ``LOCALISES`` has besides: its own way to the maps that affinities refine."""

    def localise(
        self, backbone: Backbone, images: Float[Tensor, "b 3 height width"], classes: Int64[Tensor, "b k"]
    ) -> Located:
        """Maps without gradient, in float32 and not normalised; the forward pass is this function's own.

        It is called without gradients; where it needs some it enables them, and leaves no ``grad`` of a parameter.
        """


@runtime_checkable
class SegmentingMethod(Protocol):
    """Part that a method with ``SEGMENTS`` has besides: a decoder of its own."""

    def segment(
        self, backbone: Backbone, images: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b k height width"]:
        """Logits of the k = C + 1 classes, background first, without gradient."""


def host_maps(
    backbone: Backbone,
    images: Float[Tensor, "b 3 height width"],
    classes: Int64[Tensor, "b k"],
    output: BackboneOutput | None = None,
) -> Located:
    """The maps that the host itself offers; ``output`` is of the images, where it is at hand."""
    output = backbone(images) if output is None else output
    return output, pick_maps(backbone.localise(output), classes)


def says(module: Any, flag: Literal["LOCALISES", "SEGMENTS", "SUPERVISES_LAYERS"], config: Any) -> bool:
    """Return True if a method's module says so of a configuration."""
    said = getattr(module, flag, False)
    return bool(said(config) if callable(said) else said)
