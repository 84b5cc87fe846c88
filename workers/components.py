"""Building what a configuration names, from this machine's own places: datasets, hosts, segmenters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from aream import backbones, datasets, discover, refiners, segmenters
from aream.config import Component
from aream.data.dataset import Dataset
from aream.errors import within
from aream.refiners.protocol import Refiner, network_of
from workers.staging.locations import localised

WEIGHTS_FILE = "model.safetensors"
"""File in which a training stage keeps its network's weights."""


def build_dataset(component: Component) -> Dataset:
    dataset: Dataset = discover.load(datasets, component.name).build(localised(component.config))
    return dataset


def build_backbone(component: Component, classes: int, image_size: int) -> Any:
    """The host with its initial weights, C = ``classes`` foreground classes."""
    with within("backbone"):
        return discover.load(backbones, component.name).build(localised(component.config), classes, image_size)


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


def load_weights(module: torch.nn.Module, folder: Path) -> None:
    """Load the weights that a training stage kept."""
    module.load_state_dict(load_file(folder / WEIGHTS_FILE))


def trained_host(
    dataset: Component, backbone: Component, image_size: int, folder: Path, device: torch.device
) -> tuple[Dataset, Any]:
    """The dataset, and the host that a training stage kept, on the ``device``."""
    images = build_dataset(dataset)
    host = build_backbone(backbone, len(images.class_names), image_size)
    load_weights(host, folder)
    return images, host.to(device)
