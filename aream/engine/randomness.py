"""The states of all generators a training draws from, as plain data and tensors; of several GPUs, of the one in use."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aream.errors import ConfigError


def random_state() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])


_UNKNOWN = frozenset(
    getattr(place, name)
    for place, names in (
        (torch, "bernoulli rand randn randint randperm rand_like randn_like randint_like normal multinomial poisson"),
        (
            torch.Tensor,
            "bernoulli uniform_ normal_ random_ exponential_ cauchy_ geometric_ log_normal_ multinomial",
        ),
        (F, "dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout gumbel_softmax rrelu"),
    )
    for name in names.split()
)


_DROPOUT_AT = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}
"""Position of the argument that is the rate of the dropout inside these functions."""


class WholeBatchDraws(TorchFunctionMode):
    """A context for passes of a part of a batch through a network.

    Known are ``bernoulli_`` (stochastic depth) and ``dropout`` of tensors whose first axis is the image; whatever else
    draws would see other numbers on every process and is refused.
    """

    def __init__(self, first: int, count: int, whole: int) -> None:
        """The pass sees images ``first`` to ``first + count`` of a batch of ``whole``."""
        super().__init__()
        self.first, self.count, self.whole = first, count, whole

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.Tensor.bernoulli_:
            return args[0].copy_(self._own(self._all_images(args[0]).bernoulli_(*args[1:], **named)))
        if func is F.dropout:
            return self._dropout(*args, **named)
        place = _DROPOUT_AT.get(func)
        inside = 0.0 if place is None else named.get("dropout_p", args[place] if len(args) > place else 0.0)
        if inside > 0 or func in _UNKNOWN:
            raise ConfigError(
                f"the network draws random numbers by {getattr(func, '__name__', func)}, which are not known to be the "
                "same for every number of processes; train it with one process"
            )
        return func(*args, **named)

    def _dropout(self, images: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return images
        kept = self._own(F.dropout(torch.ones_like(self._all_images(images)), p, True))
        return images.mul_(kept) if inplace else images * kept

    def _all_images(self, part: Tensor) -> Tensor:
        if part.shape[:1] != (self.count,):
            raise ConfigError(
                f"the network draws random numbers of shape {tuple(part.shape)} for {self.count} images; "
                "train it with one process"
            )
        return part.new_empty((self.whole, *part.shape[1:]))

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self.first : self.first + self.count]
