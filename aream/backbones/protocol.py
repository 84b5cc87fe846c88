"""Contract of every host network, whatever its token layout.

Axes: b images, c foreground classes, l layers, t prefix tokens, n = h*w patches, d channels of a head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from aream.cams.affinity import LayerQK

Padding = Literal["before_flip", "after_flip"]
DEFAULT_PADDING: Padding = "after_flip"
"""AReAM's authors on MCTformer: an image is mirrored, then padded to whole patches. A backbone that was published with
another order says so (``PUBLISHED_PADDING`` of its module, ``published_padding`` of what it builds)."""
COMPILED_BY = "compiled_by"
"""Attribute of a transformer block whose functions are to be compiled: what compiles one."""

HostLosses = Callable[[Float[Tensor, "b c"]], Mapping[str, Float[Tensor, ""]]]
"""Weighted scalar terms by name, from the image labels (0 or 1); each a mean over the images."""


def no_losses(labels: Float[Tensor, "b c"]) -> Mapping[str, Float[Tensor, ""]]:
    return {}


@dataclass(frozen=True)
class BackboneOutput:
    logits: tuple[Float[Tensor, "b c"], ...]
    """One tensor a classification head; each is supervised, their mean scores an image."""
    cams: tuple[Float[Tensor, "b c h w"], ...]
    """Class activation maps (AReAM Eq. 1), one a head, not normalised; of a head without a map of its own, such as one
    on class tokens, the first. Some hosts do not rectify them; they are without gradient where attention makes them."""
    layers: Sequence[LayerQK]
    """Queries and keys of every layer, from shallow to deep."""
    tokens: Sequence[Float[Tensor, "b tokens dim"]] = ()
    """The residual stream after each layer, prefix tokens first; of the last one each token as a head reads it, after
    the host's final norm where there is one in between. None at all where tokens are not what the map is read from."""
    host_losses: HostLosses = no_losses
    """Losses that the host is trained with besides its logits, whatever the method, from the first epoch on."""

    @property
    def cam(self) -> Float[Tensor, "b c h w"]:
        """The host's own map."""
        return self.cams[0]

    @property
    def grid(self) -> tuple[int, int]:
        return self.cam.shape[2], self.cam.shape[3]

    @property
    def scores(self) -> Float[Tensor, "b c"]:
        """Mean of the heads' logits."""
        return torch.stack(self.logits).mean(dim=0)

    def split(self, size: int) -> list[BackboneOutput]:
        """The outputs of ``size`` images each, in order, without host losses."""
        return [
            dataclasses.replace(
                self,
                logits=tuple(logits[i : i + size] for logits in self.logits),
                cams=tuple(cam[i : i + size] for cam in self.cams),
                layers=[layer.image_rows(i, i + size) for layer in self.layers],
                tokens=[tokens[i : i + size] for tokens in self.tokens],
                host_losses=no_losses,
            )
            for i in range(0, len(self.cam), size)
        ]


@runtime_checkable
class Backbone(Protocol):
    """A host network; ``build(config, classes, image_size)`` of a module here returns one (a ``torch.nn.Module``).

    A module whose published split into shallow and deep layers is not :data:`aream.layers.DEFAULT_SPLIT` says so in
    ``PUBLISHED_SPLIT``. One whose outputs have ``host_losses`` names their terms in ``losses(config)``. One that finds
    out by the weights what a setting is at best names it in ``decisions(config)``, and a host that is built says what
    they came to in ``decisions()``. One whose weight file may hold its head too says in ``trained_head`` whether it
    did, and may then be evaluated without a training.
    """

    depth: int
    """Transformer layers."""
    dim: int
    """Width of its tokens."""
    prefix_tokens: int
    """Tokens before the patches, in every layer: of classes, of the image, registers."""
    patch_size: int
    """Pixels a patch side; image sides are multiples of it."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Standard deviation, and above it the mean, of the RGB input in [0, 1] that the weights expect."""

    @property
    def class_rows(self) -> slice | None:
        """Prefix tokens that stand for classes, or one for all of them, so that what they attend to says where classes
        are."""

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput: ...

    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The map that the affinities refine, without gradient and not normalised."""

    def head_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters that are new to this task (they may learn faster)."""

    def layer_parameters(self, layer: int) -> list[torch.nn.Parameter]:
        """Parameters of one transformer layer, 0-based: none of shallower layers' outputs depends on them."""

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that do not decay, besides biases and norms."""

    # the torch.nn.Module part that callers use
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def to(self, device: torch.device) -> Any: ...
    def modules(self) -> Any: ...
    def parameters(self) -> Any: ...
    def named_parameters(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...

    training: bool


def has_batch_norm(network: Any) -> bool:
    """Return True if what a network gives for an image depends, in training, on the images beside it."""
    return any(isinstance(part, _BatchNorm) for part in network.modules())
