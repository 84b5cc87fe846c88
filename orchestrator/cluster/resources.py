"""A job's demands on a node, and whether a cluster can ever meet them: Ray itself would wait for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aream.errors import ConfigError
from orchestrator.spec.settings import Resource, Resources

LISTED_NODES = 8
"""Kinds of nodes that an error names."""


@dataclass(frozen=True)
class Node:
    """A node that is up."""

    id: str
    resources: Mapping[str, float]
    """Amounts by Ray's names of the resources."""


def requested(resource: Resource) -> dict[str, float]:
    """The resources to request from Ray."""
    return {"CPU": resource.cpu, **({"GPU": resource.gpus} if resource.gpus else {}), **resource.custom}


def fits(asked: Mapping[str, float], node: Node) -> bool:
    return all(node.resources.get(name, 0.0) >= amount for name, amount in asked.items())


def places(resource: Resource, nodes: Sequence[Node]) -> int:
    """Jobs that these nodes hold beside each other while they have no others."""
    asked = requested(resource)
    return sum(
        min(int(node.resources.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items()) for node in nodes
    )


def refuse_unsatisfiable(resources: Resources, nodes: Sequence[Node], jobs: Sequence[str]) -> None:
    """Args:
        jobs: ``trial``, ``segmentation`` or both.

    Raises:
        ConfigError: no node has what one of them asks for.
    """
    for job in jobs:
        asked = requested(getattr(resources, job))
        if not any(fits(asked, node) for node in nodes):
            raise ConfigError(f"resources.{job}{_unsatisfiable(asked, nodes)}")


def whole_gpus(job: str, resource: Resource, nodes: Sequence[Node], *, autoscales: bool) -> Resource:
    """``auto`` before anything is known: a GPU for each process where the cluster has them, none where it has none.

    Args:
        autoscales: whether the cluster starts nodes that are asked for; they are taken to have GPUs.

    Raises:
        ConfigError: GPUs, but on no node enough for the processes of one trial.
    """
    if resource.gpu != "auto":
        return resource
    wanted = resource.process_count
    most = max((node.resources["GPU"] for node in gpu_nodes(resource, nodes)), default=0.0)
    if most >= wanted or (autoscales and most == 0):
        return replace(resource, gpu=float(wanted))
    if most:
        raise ConfigError(f"resources.{job}.processes: given {wanted}, with a GPU each; the largest node has {most:g}")
    return replace(resource, gpu=0.0)


def gpu_nodes(resource: Resource, nodes: Sequence[Node]) -> list[Node]:
    """Nodes with GPUs that have what else a job asks for."""
    asked = requested(replace(resource, gpu=0.0))
    return [node for node in nodes if node.resources.get("GPU", 0.0) >= 1 and fits(asked, node)]


def _unsatisfiable(asked: Mapping[str, float], nodes: Sequence[Node]) -> str:
    hint = "; where the cluster starts nodes when they are asked for, set resources.autoscaling to true"
    for name, amount in asked.items():
        most = max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        if amount > most:
            key = name.lower() if name in ("CPU", "GPU") else f"custom.{name}"
            have = _described(nodes, [name]) if name not in ("CPU", "GPU") else ""
            return f".{key}: given {amount:g}; the largest node of this cluster has {most:g}{have}{hint}"
    return f": given {amounts(asked)}; no node has all of it{_described(nodes, asked)}{hint}"


def amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())


def _described(nodes: Sequence[Node], asked: Sequence[str] | Mapping[str, float]) -> str:
    """Describe the nodes' amounts of the requested and of all custom resources."""
    kinds: Counter[str] = Counter()
    for node in nodes:
        shown = {name: node.resources.get(name, 0.0) for name in ("CPU", "GPU", *asked)}
        shown |= {name: amount for name, amount in node.resources.items() if _custom(name)}
        kinds[amounts(shown)] += 1
    texts = [f"{count} with {text}" for text, count in kinds.most_common(LISTED_NODES)]
    left = len(kinds) - LISTED_NODES
    return f" (nodes: {'; '.join([*texts, *([f'and {left} other kinds'] if left > 0 else [])])})"


def _custom(name: str) -> bool:
    """True for a resource that people choose nodes by, given by them or detected; not for Ray's internal ones."""
    return name not in ("CPU", "GPU", "memory", "object_store_memory") and not name.startswith(("node:", "bundle"))
