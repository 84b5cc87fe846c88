"""What a job asks of a node, and whether a cluster can ever give it: Ray itself would wait for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aream.errors import ConfigError
from orchestrator.settings import Resource, Resources

LISTED_NODES = 8
"""Kinds of nodes that an error names."""


@dataclass(frozen=True)
class Node:
    """A node that is up."""

    id: str
    resources: Mapping[str, float]
    """As Ray names them."""


def requested(resource: Resource) -> dict[str, float]:
    """What Ray is asked for."""
    return {"CPU": resource.cpu, **({"GPU": resource.gpu} if resource.gpu else {}), **resource.custom}


def fits(asked: Mapping[str, float], node: Node) -> bool:
    return all(node.resources.get(name, 0.0) >= amount for name, amount in asked.items())


def refuse_impossible(resources: Resources, nodes: Sequence[Node], jobs: Sequence[str]) -> None:
    """Args:
        jobs: ``trial``, ``segmentation`` or both.

    Raises:
        ConfigError: no node has what one of them asks for.
    """
    for job in jobs:
        asked = requested(getattr(resources, job))
        if not any(fits(asked, node) for node in nodes):
            raise ConfigError(f"resources.{job}{_impossible(asked, nodes)}")


def _impossible(asked: Mapping[str, float], nodes: Sequence[Node]) -> str:
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
    """What the nodes have of what was asked for, and which custom resources there are."""
    kinds: Counter[str] = Counter()
    for node in nodes:
        shown = {name: node.resources.get(name, 0.0) for name in ("CPU", "GPU", *asked)}
        shown |= {name: amount for name, amount in node.resources.items() if _custom(name)}
        kinds[amounts(shown)] += 1
    texts = [f"{count} with {text}" for text, count in kinds.most_common(LISTED_NODES)]
    left = len(kinds) - LISTED_NODES
    return f" (nodes: {'; '.join([*texts, *([f'and {left} other kinds'] if left > 0 else [])])})"


def _custom(name: str) -> bool:
    """Whether somebody gave it, or Ray found it out for people to choose by; not what it keeps for itself."""
    return name not in ("CPU", "GPU", "memory", "object_store_memory") and not name.startswith(("node:", "bundle"))
