"""Hosts as they are and with compiled blocks, in a process of its own: run-time type checks would be compiled too.

Prints a line of JSON a host.
"""

from __future__ import annotations

import functools
import json

import torch
from small_conformers import random_host
from small_mctformers import built as mctformer
from small_transformers import FAMILIES, small
from small_transformers import built as transformer
from torch._dynamo.utils import counters

from aream.engine.compiled import compile_blocks, transformer_blocks

HOSTS = {
    "mctformer_v2": lambda: mctformer("v2"),
    "conformer": random_host,
    **{name: functools.partial(transformer, small(name, drop_path=0.1)) for name in FAMILIES},
    "shared_mass": functools.partial(
        transformer, small("vit_tiny_patch16_224", drop_path=0.1, class_tokens="per_class", class_token_mass="split")
    ),
}


def passed(host, images) -> list[torch.Tensor]:
    """Map, queries and gradients of one pass."""
    torch.manual_seed(0)
    output = host(images)
    queries = [layer.queries for layer in output.layers]
    host.zero_grad()
    (output.scores.sum() + sum(each.square().mean() for each in queries)).backward()
    return [output.cam, *queries, *(part.grad for part in host.parameters() if part.grad is not None)]


def backward_twice(host, images) -> None:
    """As where a method's gradient is held against the host's own, after steps where it is not."""
    loss = host(images).scores.sum()
    torch.autograd.grad(loss, [*host.parameters()], retain_graph=True, allow_unused=True)
    loss.backward()


def compiled_for(name: str, side: int, passes: list[tuple[bool, int]]) -> list[str]:
    """What a host's passes, each in train mode or not and of so many images, are compiled to."""
    torch._dynamo.reset()
    found: list[str] = []

    def backend(graph, inputs):
        found.append(f"{graph.code}{[getattr(each, 'shape', each) for each in inputs]}")
        return graph.forward

    host = HOSTS[name]()
    compile_blocks(host, backend=backend)
    for trains, count in passes:
        with torch.set_grad_enabled(trains):
            host.train(trains)(torch.zeros(count, 3, side, side))
    return sorted(found)


def apart_by(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-6))


def compared(name: str) -> dict[str, object]:
    torch._dynamo.reset()
    counters.clear()
    side = 32 if name in ("mctformer_v2", "conformer") else 224
    host, images = HOSTS[name]().train(), torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    names, plain = [*host.state_dict()], passed(host, images)
    compile_blocks(host, backend="aot_eager")
    compiled = passed(host, images)
    apart = [
        float((a - b).detach().abs().max() / b.abs().max().clamp(min=1e-6))
        for a, b in zip(compiled, plain, strict=True)
    ]
    backward_twice(host, images)
    graphs, blocks = counters["stats"]["unique_graphs"], len(transformer_blocks(host))
    of_another = name in FAMILIES  # they are one host's
    passes = [] if of_another else [(True, 2), *((False, count) for count in range(1, 5))]
    return {
        "host": name,
        "difference": max(apart),
        "breaks": sum(counters["graph_break"].values()),
        "graphs": graphs,
        "blocks": blocks,
        "layers": host.depth,
        "names": [*host.state_dict()] == names,
        "whatever_came_before": compiled_for(name, side, passes) == compiled_for(name, side, passes[::-1]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for host in HOSTS:
        print(json.dumps(compared(host)), flush=True)
