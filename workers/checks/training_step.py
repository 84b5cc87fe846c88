"""Check that networks can take a training step of the requested sizes, tried without numbers and without a GPU.

On torch's meta device a forward pass of the largest batch takes no memory and next to no time; what only shapes decide,
such as batch norm over a single number a channel, shows there as it would hours later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from aream import discover, methods
from aream.affinity_net import network as affinity_network
from aream.backbones.protocol import has_batch_norm
from aream.config import Component
from aream.data.files import reason
from aream.engine.steps import OutOfMemoryPolicy
from aream.errors import AreamError, ConfigError, within
from aream.methods.protocol import says
from aream.refiners import psa
from aream.segmentation.predict import seen_sizes
from aream.train_config import TrainConfig
from workers.components import build_backbone, build_method, build_segmenter, refuse_untrained
from workers.staging.locations import localised
from workers.trial import SegmentationConfig

NO_VARIANCE = "Expected more than 1 value per channel"
"""Torch's message where batch norm has one number to normalise."""


def check_host(
    backbone: Component,
    trained_by: Sequence[Component],
    classes: int,
    train: TrainConfig,
    images: int,
    processes: int,
) -> None:
    """Build the host with its weights and the methods' own networks for it, and try a step of the host's training; of
    one that is evaluated as it is, look whether all that is used was trained.

    Args:
        trained_by: methods.
        images: of the train split.
        processes: that share a batch.

    Raises:
        AreamError: weights or a method that do not fit, or a step that cannot be taken.
    """
    host = build_backbone(backbone, classes, train.image_size)
    batch = min(train.batch_size, images)
    if batch < processes:
        raise ConfigError(
            f"train.batch_size: need an image for each of the {processes} processes of a trial; a batch has {batch} "
            f"of {images} train images"
        )
    own = [(method, _network(method, host, classes, train)) for method in trained_by]
    for name, network in ((backbone.name, host), *((method.name, network) for method, network in own)):
        if processes > 1 and network is not None and has_batch_norm(network):
            raise ConfigError(
                f"resources.trial: {name} has batch norm, which sees the images of one process only; train it with one "
                f"process, not {processes}"
            )
    if train.epochs:
        _try_step(host, host, batch, train.image_size, "train", train.out_of_memory)
        return
    refuse_untrained(backbone, host)
    for method, network in own:
        _refuse_untrained_network(method, network)


def _refuse_untrained_network(method: Component, network: torch.nn.Module | None) -> None:
    """Raises ``ConfigError`` where nothing has trained a network that a method finds its maps or segments with."""
    module = discover.load(methods, method.name)
    used = says(module, "LOCALISES", method.config) or says(module, "SEGMENTS", method.config)
    if used and network is not None:
        raise ConfigError(
            f"train.epochs: 0 trains nothing, and the method {method.name} has a network of its own, which "
            "backbone.weights does not hold; need 1 epoch or more, or another method (`aream infer` uses exported "
            "weights of both)"
        )


def _network(method: Component, host: Any, classes: int, train: TrainConfig) -> torch.nn.Module | None:
    """A method's own, for the host."""
    module = discover.load(methods, method.name)
    with within("method"):
        resolved = Component(name=method.name, config=module.resolve(method.config, host.depth))
    entropies = torch.zeros(host.depth) if module.needs_entropy(resolved.config) else None
    return build_method(resolved, host, classes, train.image_size, entropies=entropies).network


def check_segmenter(
    segmentation: SegmentationConfig, classes: int, images: int, size: tuple[int, int] | None = None
) -> None:
    """The same of a segmenter, and that it takes images of the sizes it will see: some encoders have one size alone.

    Args:
        classes: with the background.
        size: width and height of an image that it is scored on; None: not known.
    """
    train, evaluate = segmentation.train, segmentation.evaluate
    segmenter = build_segmenter(segmentation.model, classes, train.crop)
    sizes = {(train.crop, train.crop): "segmentation.train.crop"}
    if size is not None:
        for scale, seen in zip(evaluate.scales, seen_sizes(size, evaluate), strict=True):
            sizes.setdefault(seen, f"segmentation.evaluate, scale {scale:g} of an image of {size[0]} x {size[1]}")
    for (width, height), what in sizes.items():
        if _cannot(segmenter, height, width, "meta") is None:
            continue
        # Without numbers more may fail than the network itself does.
        again = build_segmenter(segmentation.model, classes, train.crop)
        if (error := _cannot(again, height, width, "cpu")) is not None:
            raise ConfigError(
                f"segmentation.model: {segmentation.model.name} cannot see {width} x {height} pixels ({what}): "
                f"{reason(error)}"
            ) from error
    batch = min(train.batch_size, images)
    _try_step(segmenter, segmenter, batch, train.crop, "segmentation.train", train.out_of_memory)


def _cannot(segmenter: Any, height: int, width: int, device: str) -> Exception | None:
    """What a segmenter raises at an image of a size."""
    try:
        with torch.no_grad(), contextlib.suppress(NotImplementedError):
            segmenter.to(torch.device(device)).eval()(torch.zeros(1, 3, height, width, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        return error
    return None


def check_affinity_net(refiner: Component, images: int) -> None:
    """The same of the network that a refiner wants trained, where it wants one."""
    config = localised(refiner.config)
    if not isinstance(config, psa.Config) or not psa.needs_network(config):
        return
    network, train = affinity_network.build(config.network), config.train
    batch = min(train.batch_size, images)
    _try_step(network, network.features, batch, train.crop, "labels.refiner.train", train.out_of_memory)


def _try_step(
    module: Any, forward: Callable[[torch.Tensor], Any], batch: int, side: int, key: str, policy: OutOfMemoryPolicy
) -> None:
    module.to(torch.device("meta")).train()
    sizes = {batch: f"{key}.batch_size, of which a batch has {batch} here"}
    if policy == "accumulate":
        sizes.setdefault(1, f"{key}.out_of_memory: accumulate, whose micro-batches may be single images")
    for size, what in sizes.items():
        try:
            # What cannot be tried without numbers is not known here.
            with torch.no_grad(), contextlib.suppress(RuntimeError, NotImplementedError):
                forward(torch.empty(size, 3, side, side, device="meta"))
        except AreamError as error:
            raise ConfigError(f"{what}: {error}") from error
        except ValueError as error:
            if NO_VARIANCE not in str(error):
                raise
            raise ConfigError(
                f"{what}: batch norm has a single number a channel in a step of {size} image of {side} pixels a side; "
                "need more images a step, or larger ones"
            ) from error
