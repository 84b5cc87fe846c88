"""A downstream segmentation network; ``build(config, classes, image_size)`` of a module here returns one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Predictor(Protocol):
    """Part of a trained network that images are asked of."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k height width"]:
        """Logits of the k = C + 1 classes, background first, at the size of the images."""

    def eval(self) -> Any: ...


@runtime_checkable
class Segmenter(Predictor, Protocol):
    def head_parameters(self) -> list[torch.nn.Parameter]: ...
    def train(self, mode: bool = True) -> Any: ...
    def to(self, device: torch.device) -> Any: ...
    def named_parameters(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...
