"""Several methods at once: their losses are added, their networks are trained together.

``method: {name: plus, parts: [more, {name: aream, affinity_weight: 0.5}]}``. Terms and measures carry the name of their
part before a dot. Where a part finds its own maps, the first one's are those of all: CAMs, and AReAM's labels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from aream import discover, methods
from aream.backbones.protocol import Backbone, BackboneOutput
from aream.config import Component, components, config
from aream.engine.batches import Batch
from aream.engine.ranks import ALONE, Ranks
from aream.entropies import EntropyInput, EntropyMap, EntropyProb
from aream.errors import ConfigError, within
from aream.methods import aream
from aream.methods.protocol import FIRST, HostShape, Losses, Method, Progress, Terms, says

NAME = __name__.rpartition(".")[2]


def _module(name: str) -> ModuleType:
    if name == NAME:
        raise ConfigError(f"given {NAME}; need methods that are no sums of others")
    return discover.load(methods, name)


def _config_of(name: str) -> type[Any]:
    config: type[Any] = _module(name).Config
    return config


@config
class Config:
    parts: tuple[Component, ...] = components(_config_of, (Component(name="aream", config=aream.Config()),))
    """Methods, each once."""
    layer_index: int | None = None
    """First deep layer, 0-based, of an inference that names shallow or deep layers, and of the parts that do not name
    theirs; null: the backbone's published split, scaled to the depth."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"parts: need one or more different methods, got {names}")
        for name in names:
            _module(name)

    @property
    def entropy_map(self) -> EntropyMap:
        return self._measured("entropy_map")

    @property
    def entropy_input(self) -> EntropyInput:
        return self._measured("entropy_input")

    @property
    def entropy_prob(self) -> EntropyProb:
        return self._measured("entropy_prob")

    def _measured(self, setting: str) -> Any:
        found = {getattr(part.config, setting) for part in self.parts if _module(part.name).needs_entropy(part.config)}
        if len(found) != 1:
            raise ConfigError(f"parts: need one {setting} for all that weigh layers by entropy, got {sorted(found)}")
        return found.pop()


def resolve(config: Config, depth: int) -> Config:
    """Resolve the configuration of every part."""
    return Config(parts=tuple(_resolved(part, config.layer_index, depth) for part in config.parts))


def _resolved(part: Component, layer_index: int | None, depth: int) -> Component:
    module, own = _module(part.name), part.config
    if layer_index is not None and getattr(own, "layer_index", layer_index) is None:
        own = dataclasses.replace(own, layer_index=layer_index)
    with within(part.name):
        return Component(name=getattr(module, "TRAINS_AS", part.name), config=module.resolve(own, depth))


def needs_entropy(config: Config) -> bool:
    return any(_module(part.name).needs_entropy(part.config) for part in config.parts)


def losses(config: Config) -> tuple[str, ...]:
    return _named("losses", config)


def measures(config: Config) -> tuple[str, ...]:
    return _named("measures", config)


def _named(kind: str, config: Config) -> tuple[str, ...]:
    """Return what the parts declare, under the name of each."""
    declared = ((part, getattr(_module(part.name), kind, None)) for part in config.parts)
    return tuple(f"{part.name}.{term}" for part, own in declared if own is not None for term in own(part.config))


def _some_part_says(flag: Literal["LOCALISES", "SEGMENTS", "SUPERVISES_LAYERS"], config: Config) -> bool:
    return any(says(_module(part.name), flag, part.config) for part in config.parts)


LOCALISES = functools.partial(_some_part_says, "LOCALISES")
SEGMENTS = functools.partial(_some_part_says, "SEGMENTS")
SUPERVISES_LAYERS = functools.partial(_some_part_says, "SUPERVISES_LAYERS")


def build(config: Config, entropies: Float[Tensor, " l"] | None = None, host: HostShape | None = None) -> Plus:
    """The methods for a resolved configuration; raises what building one of them does."""
    parts: dict[str, Method] = {}
    for part in config.parts:
        module = _module(part.name)
        with within(part.name):
            own = entropies if module.needs_entropy(part.config) else None
            parts[part.name] = module.build(part.config, own, host)
    built = Plus(parts)
    for part in config.parts:
        if says(_module(part.name), "SEGMENTS", part.config):
            built.segment = parts[part.name].segment  # type: ignore[attr-defined]
            break
    return built


class Plus:
    def __init__(self, parts: Mapping[str, Method]) -> None:
        self.parts = parts
        networks = {name: part.network for name, part in parts.items() if part.network is not None}
        self.network = nn.ModuleDict(networks) if networks else None
        localisers = [part for part in parts.values() if hasattr(part, "localise")]
        for first in localisers[:1]:
            self.localise = first.localise
            for part in parts.values():
                if isinstance(part, aream.AReAM):
                    part.localise_with = first.localise

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        """Return the losses of all methods, added."""
        every = [method.losses_of_parts(backbone, parts, ranks, progress) for method in self.parts.values()]
        return [functools.partial(self._terms, of_part) for of_part in zip(*every, strict=True)]

    def supervised_layers(self) -> Sequence[int]:
        return sorted({layer for method in self.parts.values() for layer in method.supervised_layers()})

    def _terms(self, losses: Sequence[Losses], output: BackboneOutput) -> Terms:
        merged, classifying = Terms({}), set[str]()
        for name, own in zip(self.parts, losses, strict=True):
            terms = own(output)
            for kind in ("losses", "measures", "taught_from", "applies"):
                found = {f"{name}.{term}": value for term, value in getattr(terms, kind).items()}
                getattr(merged, kind).update(found)
            classifying |= {f"{name}.{term}" for term in terms.classifying}
        return dataclasses.replace(merged, classifying=frozenset(classifying))
