"""A host's transformer blocks compiled, each by itself: what a host does between them is its own code and stays so.

Each for every shape that it sees: code for all shapes at once would be made, or not, by what the process saw before,
and rounds otherwise.
"""

from __future__ import annotations

import functools

import torch
from torch import nn

from aream.backbones.protocol import COMPILED_BY

MOST_GRAPHS = 2**16
"""Of one function. At torch's own limit, of a few, it would go on without compiling, and round otherwise."""


def transformer_blocks(host: nn.Module) -> list[nn.Module]:
    """Modules that hold an attention and an MLP."""
    return [module for module in host.modules() if hasattr(module, "attn") and hasattr(module, "mlp")]


def compile_blocks(host: nn.Module, backend: str = "inductor") -> None:
    """Weights keep their names. Blocks of one shape share their code, unless their drop paths differ."""
    blocks = transformer_blocks(host)
    torch._functorch.config.donated_buffer = False  # a step may go back through its graph more than once
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_GRAPHS
    compiler = functools.partial(torch.compile, backend=backend, dynamic=False)
    for block in blocks:
        object.__setattr__(block, COMPILED_BY, compiler)
        object.__setattr__(block, "forward", compiler(block.forward))
