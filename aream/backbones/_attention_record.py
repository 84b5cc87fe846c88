"""Recording a transformer that runs its own code: tokens after each block, and the arguments of its attention."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aream.cams.affinity import LayerQK
from aream.errors import ConfigError


@contextlib.contextmanager
def outputs_of(blocks: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what the blocks return while the context is entered, in the order of their calls."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *run: found.append(run[-1])) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class AttentionRecord(TorchFunctionMode):
    """Record of attention. While it is entered, every ``scaled_dot_product_attention`` adds to ``layers``: queries and
    keys as they are multiplied (after norms and rotary positions), with their gradient, what is added to their logits,
    and the heads' values and outputs. A ``bias`` is added to the logits of each, which must have none of their own.

    Raises:
        ConfigError: an attention that is not softmax(q k' d^-1/2 + bias) over all tokens.
    """

    def __init__(self, layers: list[LayerQK], bias: Float[Tensor, "1 1 1 tokens"] | None = None) -> None:
        super().__init__()
        self.layers = layers
        self.bias = bias

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*arguments, **(named or {}))
        named = {**(named or {}), **({} if self.bias is None else {"attn_mask": self.bias})}
        layer = _layer(*arguments, **named)
        attended = function(*arguments, **named)
        self.layers.append(dataclasses.replace(layer, attended=attended))
        return attended


def _layer(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> LayerQK:
    usual = query.shape[-1] ** -0.5
    if query.ndim != 4 or key.shape != query.shape:
        raise ConfigError(
            f"attention of queries {tuple(query.shape)} over keys {tuple(key.shape)} is not one of all tokens over all "
            "tokens, head by head"
        )
    if is_causal or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise ConfigError("attention is kept from some of the tokens (a causal or boolean mask)")
    if scale is not None and abs(scale - usual) > 1e-6 * usual:
        raise ConfigError(f"attention logits are scaled by {scale:g}, not by the root of a head's channels ({usual:g})")
    if attn_mask is None:
        return LayerQK(query, key, None, value)
    return LayerQK(query, key, attn_mask.reshape((1,) * (4 - attn_mask.ndim) + attn_mask.shape), value)
