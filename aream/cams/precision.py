"""Numbers of 32 bits where a network runs in 16: maps and what is decided by them."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def widened(tensor: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The same numbers in 32 bits at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context in which products on the tensor's device are as wide as their factors.

    Under autocast they are of 16 bits, also those of factors that were :func:`widened`.
    """
    return torch.autocast(tensor.device.type, enabled=False)
