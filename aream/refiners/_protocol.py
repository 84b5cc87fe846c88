"""What makes score maps follow an image's edges; ``build(config)`` of a module here returns one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Refiner(Protocol):
    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> Any:
        """What depends on the images (RGB in [0, 1]) alone, computed once for any number of score maps."""

    def apply(self, kernel: Any, scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refined scores; no gradient. Channels may compete, so they are those of one distribution."""

    def refine(self, images: Float[Tensor, "b 3 h w"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``apply(kernel(images), scores)`` on the scale of the scores, so that thresholds keep their meaning."""
