"""What makes score maps follow an image's edges.

A module here holds ``Config`` and ``build(config) -> Refiner``. One that needs a network trained on the CAMs holds also

- ``NETWORK``, a name: the network comes from the stage ``train_<NETWORK>``, whose module says what that stage reads of
  the refiner's ``Config`` and of the trial, in a function ``stage`` (``workers/stages/train_affinity.py``),
- ``needs_network(config)``: whether one must be trained, or the config names one that is,
- ``fingerprint(config)``: the identity of the weight file that the config names,
- ``check_weights(config)``: raises ``DataError`` where that file does not fit,

and its ``build(config, network, device)`` takes the file with the trained weights, None where none was trained. It can
refine labels only: inside a method there are no CAMs yet.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from aream import discover, refiners
from aream.config import Component
from aream.errors import ConfigError


@runtime_checkable
class Refiner(Protocol):
    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> Any:
        """What depends on the images (RGB in [0, 1]) alone, computed once for any number of score maps."""

    def apply(self, kernel: Any, scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refined scores; no gradient. Channels may compete, so they are those of one distribution."""

    def refine(self, kernel: Any, scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``apply`` of labels: on the scale of the scores, in [0, 1], so that thresholds keep their meaning."""


def network_of(component: Component) -> str | None:
    """Name of the network that the refiner is made with; None: it is made from its configuration alone."""
    name: str | None = getattr(discover.load(refiners, component.name), "NETWORK", None)
    return name


def refuse_network(component: Component) -> None:
    """
    Raises:
        ConfigError: a refiner that no method can have.
    """
    if network_of(component) is not None:
        raise ConfigError(
            f"refiner: given {component.name!r}, whose network is trained on CAMs that a method's training has yet to "
            "make; it can be the refiner of the labels section"
        )
