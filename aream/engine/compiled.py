"""A host's transformer blocks compiled, each by itself: what a host does between them is its own code and stays so."""

from __future__ import annotations

import functools

import torch
from torch import nn

from aream.backbones.protocol import COMPILED_BY


def transformer_blocks(host: nn.Module) -> list[nn.Module]:
    """Modules that hold an attention and an MLP."""
    return [module for module in host.modules() if hasattr(module, "attn") and hasattr(module, "mlp")]


def compile_blocks(host: nn.Module, backend: str = "inductor") -> None:
    """Weights keep their names. Blocks of one shape share their code, unless their drop paths differ."""
    blocks = transformer_blocks(host)
    torch._functorch.config.donated_buffer = False  # a step may go back through its graph more than once
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(blocks))
    compiler = functools.partial(torch.compile, backend=backend)
    for block in blocks:
        object.__setattr__(block, COMPILED_BY, compiler)
        object.__setattr__(block, "forward", torch.compile(block.forward, backend=backend))
