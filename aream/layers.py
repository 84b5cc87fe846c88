"""Naming subsets of transformer layers: by split (shallow, deep), all of them, or one by one."""

from __future__ import annotations

from typing import Literal

from aream.errors import ConfigError

LayerSubset = Literal["all", "shallow", "deep"] | tuple[int, ...]

DEFAULT_SPLIT = (7, 12)
"""First deep layer of AReAM on DeiT-S: 7 of 12 (the authors' MCTformer script). A backbone that was published with
another says so (``PUBLISHED_SPLIT`` of its module)."""


def first_deep_layer(depth: int, layer_index: int | None, published: tuple[int, int] = DEFAULT_SPLIT) -> int:
    """The first deep layer; None scales the published one, (first deep layer, layers), to ``depth``.

    Raises:
        ConfigError: ``layer_index`` leaves no shallow or no deep layer.
    """
    if layer_index is None:
        split, of = published
        return min(max(1, round(depth * split / of)), max(1, depth - 1))
    if not 0 < layer_index < max(depth, 2):  # a single layer is shallow
        raise ConfigError(f"layer_index: need 0 < layer_index < {depth} (the backbone's depth), got {layer_index}")
    return layer_index


def resolve_layers(subset: LayerSubset, depth: int, first_deep: int, key: str = "layers") -> tuple[int, ...]:
    """The layers a subset names, ascending, 0-based.

    Args:
        key: that the subset was given under.

    Raises:
        ConfigError: a layer that the backbone does not have, one named twice, or no layer at all.
    """
    if subset == "all":
        return tuple(range(depth))
    if subset == "shallow":
        return tuple(range(first_deep))
    if subset == "deep" and first_deep < depth:
        return tuple(range(first_deep, depth))
    if subset == "deep":
        raise ConfigError(f"{key}: the backbone has no deep layer, its depth is {depth}; need all, shallow or [0]")
    if not subset or len(set(subset)) != len(subset) or not all(0 <= layer < depth for layer in subset):
        raise ConfigError(
            f"{key}: need one or more different layers in 0..{depth - 1}, or all, shallow, deep; got {list(subset)}"
        )
    return tuple(sorted(subset))
