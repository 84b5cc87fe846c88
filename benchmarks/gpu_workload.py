"""What the parts of ``benchmarks.gpu`` measure on: sizes, images, and a training, on the code that a trial runs."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from aream import augmentations, backbones, discover
from aream.config import Component
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import voc2012
from aream.engine.batches import Batch, SquareImages, TrainingBatches
from aream.engine.device_images import DeviceImages
from aream.engine.loading import HERE, Loading
from aream.layers import DEFAULT_SPLIT, first_deep_layer
from aream.methods import aream, mean_affinity
from aream.train import Training, seed_everything
from aream.train_config import TrainConfig
from benchmarks.photos import CLASSES, write_photos
from workers.images import SHARE
from workers.processes.memory_limits import free_shared_memory, usable_memory

PLAIN, ONLINE, EXTRA = "plain", "AReAM online", "AReAM extra forward"
WAYS = {ONLINE: aream.Config(label_mode="online"), EXTRA: aream.Config(label_flip=False)}
"""How AReAM's labels are made: of the training's own forward, or of one more."""
COUNTED = 2
"""Images of the step whose operations are counted: they are proportional to the images."""


@dataclass(frozen=True)
class Size:
    """How much is measured, and on what."""

    host: Mapping[str, Any]
    side: int
    batches: tuple[int, ...]
    compiler: str
    """torch's name of a backend of its compiler."""
    steps: int
    """Steps between two looks at the clock."""
    seconds: float
    """A timing lasts at least so long."""
    matmul: int
    """Side of the square matrices whose product tells what a device can do at most."""
    train: int
    """Images of a training."""
    loaded: int
    """Images of an epoch of the loader."""
    located: int
    labelled: int
    banked: int
    """Images of an epoch of a bank."""
    pictures: int
    picture: tuple[int, int]
    """Width and height, pixels."""


FULL = Size(
    host={"vit": "deit_small_patch16_224"}, side=224, batches=(64, 256), compiler="inductor", steps=10, seconds=3.0,
    matmul=8192, train=10_582, loaded=4096, located=256, labelled=128, banked=1024, pictures=256, picture=(500, 375),
)  # fmt: skip
TOY = Size(
    host={"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 4, "heads": 2}, side=32, batches=(2, 4),
    compiler="aot_eager", steps=1, seconds=0.0, matmul=64, train=16, loaded=8, located=4, labelled=2, banked=4,
    pictures=4, picture=(40, 30),
)  # fmt: skip
SIZES = {"full": FULL, "toy": TOY}


@dataclass(frozen=True)
class Row:
    part: str
    what: str
    value: float
    unit: str
    goal: str = ""
    """On an H100 or H200; empty: none."""
    met: bool | None = None


@dataclass(frozen=True)
class Place:
    size: Size
    device: torch.device
    root: Path
    """Folder of the images."""
    cores: int

    @property
    def loading(self) -> Loading:
        """Processes beside this one on all cores but its own."""
        return Loading(self.cores - 1, self.device.type == "cuda", free_shared_memory) if self.cores > 1 else HERE


LISTS = ("loaded", "located", "labelled", "banked")


def write_images(root: Path, size: Size) -> None:
    lists = {name: getattr(size, name) for name in ("train", *LISTS)}
    write_photos(root, lists, max(size.batches), pictures=size.pictures, size=size.picture)


def data(place: Place, images: str = "train") -> voc2012.Config:
    return voc2012.Config(root=str(place.root), train_list=f"{images}.txt")


def made_training(place: Place, batch: int, way: str, images: str = "train", epochs: int = 1) -> Training:
    """With its images decoded once."""
    module = discover.load(backbones, "mctformer_v2")
    host_config = module.Config(**place.size.host)
    depth, _ = module.shape(host_config)
    split = first_deep_layer(depth, None, getattr(module, "PUBLISHED_SPLIT", DEFAULT_SPLIT))
    seed_everything(0)
    host = module.build(host_config, CLASSES, place.size.side)
    if way == PLAIN:
        method: Any = mean_affinity.build(mean_affinity.Config())
    else:
        method = aream.build(aream.resolve(dataclasses.replace(WAYS[way], layer_index=split), depth))
    config = TrainConfig(
        batch_size=batch, image_size=place.size.side, epochs=epochs, warmup_epochs=0, lr_warmup_epochs=0
    )
    dataset = DecodedOnce(voc2012.build(data(place, images)), OwnImages(int(SHARE * usable_memory())))
    training = Training(host, method, dataset, config, 0, device=place.device, loading=place.loading)
    training.networks.train()
    return training


def made_batches(
    training: Training, place: Place, augmentation: str, kept: DeviceImages | None = None
) -> TrainingBatches:
    """Those of the training, changed by another augmentation's defaults."""
    host, module = training.backbone, discover.load(augmentations, augmentation)
    return TrainingBatches(
        training.dataset,
        side=training.config.image_size,
        batch_size=training.config.batch_size,
        augmentation=Component(name=augmentation, config=module.Config()),
        mean=host.mean,
        std=host.std,
        seed=0,
        loading=place.loading,
        device=place.device,
        kept=kept,
    )


def one_batch(training: Training, batch: int, device: torch.device) -> Batch:
    """On the device already."""
    host, dataset = training.backbone, training.dataset
    squares = SquareImages(dataset, training.config.image_size, (host.mean, host.std))
    return next(squares.batches(dataset.ids("train")[:batch], batch)).to(device)


def take_step(training: Training, batch: Batch) -> None:
    """One step of an epoch like any other: in four of them a method's gradient is held against the host's own."""
    training.train_step(batch)
    training.step = (training.step + 1) % len(training.batches)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured_rate(work: Callable[[], object], items: int, place: Place) -> float:
    """Items a second of ``work``, which does as many; it has run before."""
    done = 0
    wait(place.device)
    began = time.perf_counter()
    while done == 0 or time.perf_counter() - began < place.size.seconds:
        for _ in range(place.size.steps):
            work()
        wait(place.device)
        done += place.size.steps
    return done * items / (time.perf_counter() - began)


def matmul_rate(place: Place) -> float:
    """Operations a second of a product of bf16 matrices: what there is to be had."""
    side = place.size.matmul
    factors = torch.randn(2, side, side, device=place.device, dtype=torch.bfloat16)
    product = functools.partial(torch.mm, factors[0], factors[1])
    product()
    return measured_rate(product, 2 * side**3, place)


def operations_an_image(training: Training, batch: Batch) -> float:
    """Of a step, an image: those of matrix products, convolutions and attention, backward too."""
    few = batch.split(min(COUNTED, len(batch.ids)))[0]
    few = dataclasses.replace(few, whole=())
    with FlopCounterMode(display=False) as counter:
        take_step(training, few)
    return counter.get_total_flops() / len(few.ids)
