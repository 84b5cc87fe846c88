"""Building what a configuration names, from this machine's own places: datasets, hosts, segmenters."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from aream import backbones, datasets, discover, methods, refiners, segmenters
from aream.config import Component
from aream.data.dataset import Dataset
from aream.data.decoded import DecodedOnce
from aream.errors import ConfigError, within
from aream.methods.protocol import HostShape, Localise, Method
from aream.refiners.protocol import Refiner, network_of
from workers.processes.runtime import Runtime
from workers.staging.locations import localised

log = logging.getLogger(__name__)
PLAIN = Runtime()


def weights_file(network: str) -> str:
    """File in which a training stage keeps the weights of one of its networks."""
    return f"{network}.safetensors"


WEIGHTS_FILE = weights_file("model")
METHOD_FILE = weights_file("method")
"""File beside it, where the method has a network of its own."""
ENTROPIES_FILE = "entropies.json"
"""A number a layer."""


def build_dataset(component: Component, runtime: Runtime = PLAIN) -> Dataset:
    """The dataset; its images come from where the ``runtime`` shares those that were decoded before, if it has such a
    place and the component's ``cache`` wants it."""
    dataset: Dataset = discover.load(datasets, component.name).build(localised(component.config))
    cache = getattr(component.config, "cache", "none")
    images = None if cache == "none" else runtime.images()
    if images is None:
        return dataset
    once = DecodedOnce(dataset, images)
    if cache is None and (size := once.expected_bytes()) > images.room:
        log.info(
            "images are decoded at each reading: together they take %d MiB, kept are %d", size >> 20, images.room >> 20
        )
        return dataset
    return once


def build_backbone(component: Component, classes: int, image_size: int) -> Any:
    """The host with its initial weights, C = ``classes`` foreground classes."""
    with within("backbone"):
        return discover.load(backbones, component.name).build(localised(component.config), classes, image_size)


def refuse_untrained(component: Component, host: Any) -> None:
    """
    Raises:
        ConfigError: the host is to be used as it is, and no weight file gave it a head.
    """
    if getattr(host, "trained_head", False):
        return
    if not hasattr(host, "trained_head"):
        why = f"the backbone {component.name} does not say of its weights whether they hold its head (trained_head)"
    else:
        why = f"backbone.weights: {getattr(component.config, 'weights', None) or 'null'} holds no trained head"
    raise ConfigError(
        f"train.epochs: 0 evaluates a host as it is, but {why}; need a file that a training of such a host wrote "
        "(`aream artifacts export --what weights`), or 1 epoch or more"
    )


def backbone_shape(component: Component) -> tuple[int, int]:
    """(depth, patch size) of a host, whatever its weights."""
    with within("backbone"):
        depth, patch = discover.load(backbones, component.name).shape(component.config)
    return depth, patch


def fingerprint_backbone(component: Component) -> str:
    """Identity of the host's initial weights."""
    return str(discover.load(backbones, component.name).fingerprint(localised(component.config)))


def build_segmenter(component: Component, classes: int, image_size: int) -> Any:
    """The segmenter with its initial weights; ``classes`` counts the background."""
    with within("segmentation.model"):
        return discover.load(segmenters, component.name).build(localised(component.config), classes, image_size)


def fingerprint_segmenter(component: Component) -> str:
    """Identity of the segmenter's initial weights."""
    return str(discover.load(segmenters, component.name).fingerprint(localised(component.config)))


def build_refiner(component: Component, network: Path | None, device: torch.device) -> Refiner:
    """The refiner; ``network`` holds the weights that were trained for it, None: none were."""
    module, built = discover.load(refiners, component.name), localised(component.config)
    with within("labels.refiner"):
        if network_of(component) is None:
            refiner: Refiner = module.build(built)
        else:
            refiner = module.build(built, None if network is None else str(network), device)
    return refiner


def fingerprint_refiner(component: Component) -> str:
    """Identity of the weight file of a refiner that has a network."""
    return str(discover.load(refiners, component.name).fingerprint(localised(component.config)))


def check_refiner(component: Component) -> None:
    """
    Raises:
        AreamError: a weight file that the refiner's network cannot take.
    """
    if network_of(component) is not None:
        with within("labels.refiner"):
            discover.load(refiners, component.name).check_weights(localised(component.config))


def build_method(
    component: Component,
    host: Any,
    classes: int,
    image_size: int,
    *,
    seed: int = 0,
    entropies: Float[Tensor, " l"] | None = None,
) -> Method:
    """The method of a host for training images of a side in pixels, its network drawn from ``seed`` alone: of every
    warm-up and number of processes the same; torch's own generator goes on as if nothing was drawn."""
    module, shape = discover.load(methods, component.name), HostShape.of(host, classes, image_size)
    with within("method"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(hashlib.sha256(f"method {seed}".encode()).digest()[:8]))
        method: Method = module.build(component.config, entropies, shape)
    return method


def trained_localiser(
    component: Component | None, host: Any, classes: int, image_size: int, inputs: Mapping[str, Path]
) -> Localise | None:
    """Return the way that a method finds maps, with the network that its training kept; None: as the host does.

    Args:
        host: on its device.
        inputs: of the stage, ``host`` the method's training, ``entropy`` what it was trained with.
    """
    if component is None:
        return None
    localise: Localise = trained_method(component, host, classes, image_size, inputs).localise
    return localise


def trained_method(component: Component, host: Any, classes: int, image_size: int, inputs: Mapping[str, Path]) -> Any:
    """A method with the network that its training kept, for use; arguments as of :func:`trained_localiser`."""
    entropies = read_entropies(inputs["entropy"]) if "entropy" in inputs else None
    method: Any = build_method(component, host, classes, image_size, entropies=entropies)
    if method.network is not None:
        load_weights(method.network, inputs["host"], METHOD_FILE)
        method.network.to(next(host.parameters()).device).eval()
    return method


def read_entropies(folder: Path) -> Float[Tensor, " l"]:
    """Read what ``layer_entropy`` wrote."""
    return torch.tensor(json.loads((folder / ENTROPIES_FILE).read_text(encoding="utf-8")), dtype=torch.float32)


def load_weights(module: torch.nn.Module, folder: Path, file: str = WEIGHTS_FILE) -> None:
    """Load the weights that a training stage kept."""
    module.load_state_dict(load_file(folder / file))


def trained_host(
    dataset: Component, backbone: Component, image_size: int, folder: Path, runtime: Runtime
) -> tuple[Dataset, Any]:
    """The dataset, and the host that a training stage kept, on the device of the ``runtime``."""
    images = build_dataset(dataset, runtime)
    host = build_backbone(backbone, len(images.class_names), image_size)
    load_weights(host, folder)
    return images, host.to(runtime.device)
