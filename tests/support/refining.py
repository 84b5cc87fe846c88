"""Refining score maps of images by any refiner."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def refined(refiner: Any, images: Tensor, scores: Tensor) -> Tensor:
    return refiner.refine(refiner.kernel(images), scores)
