"""What ``benchmarks.gpu`` measures: each part yields its figures as they come.

A part runs in a process of its own, on the code that a trial runs: ``Training``, its loader and the stages, with the
kernels that ``Runtime.prepare`` sets.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from aream import backbones, discover
from aream.bank import Bank
from aream.config import Component
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import voc2012
from aream.engine.batches import Batch, SquareImages
from aream.engine.compiled import compile_blocks
from aream.engine.loading import HERE, Loading
from aream.engine.steps import autocast
from aream.infer import CamInference, infer_cams
from aream.labels.pseudo_labels import LabelsConfig
from aream.layers import DEFAULT_SPLIT, first_deep_layer
from aream.methods import aream, mean_affinity
from aream.refiners import par
from aream.train import TrainConfig, Training, seed_everything
from benchmarks.bench_labels import RULES, SUBSETS, noisy_cams
from benchmarks.measure import peak_bytes
from benchmarks.photos import CLASSES, write_photos
from workers.checkpoint import NoCheckpoint
from workers.files.cams import write_cams
from workers.images import SHARE
from workers.processes.memory_limits import free_shared_memory, usable_memory
from workers.processes.runtime import Runtime
from workers.stage import StageContext, Work
from workers.stages import pseudo_label

PLAIN, ONLINE, EXTRA = "plain", "AReAM online", "AReAM extra forward"
WAYS = {ONLINE: aream.Config(label_mode="online"), EXTRA: aream.Config(label_flip=False)}
"""How AReAM's labels are made: of the training's own forward, or of one more."""
LEAST_RATE, MOST_COST, LEAST_FED = 7_500, 1.25, 0.95
"""Goals on an H100 or H200: images/s of the plain compiled step at the largest batch; the online step's time as a
multiple of the plain one's; the rate with the loader as a share of the rate without."""
TOGETHER, EPOCHS = 4, 3
"""Trainings of a bank, and their epochs: the first decodes, the second begins processes that know the images."""
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


Part = Callable[[Place], Iterator[Row]]
LISTS = ("loaded", "located", "labelled", "banked")


def write_images(root: Path, size: Size) -> None:
    lists = {name: getattr(size, name) for name in ("train", *LISTS)}
    write_photos(root, lists, max(size.batches), pictures=size.pictures, size=size.picture)


def _data(place: Place, images: str = "train") -> voc2012.Config:
    return voc2012.Config(root=str(place.root), train_list=f"{images}.txt")


def _training(place: Place, batch: int, way: str, images: str = "train", epochs: int = 1) -> Training:
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
    dataset = DecodedOnce(voc2012.build(_data(place, images)), OwnImages(int(SHARE * usable_memory())))
    training = Training(host, method, dataset, config, 0, device=place.device, loading=place.loading)
    training.networks.train()
    return training


def _batch(training: Training, batch: int, device: torch.device) -> Batch:
    """On the device already."""
    host, dataset = training.backbone, training.dataset
    squares = SquareImages(dataset, training.config.image_size, (host.mean, host.std))
    return next(squares.batches(dataset.ids("train")[:batch], batch)).to(device)


def _step(training: Training, batch: Batch) -> None:
    """One step of an epoch like any other: in four of them a method's gradient is held against the host's own."""
    training.train_step(batch)
    training.step = (training.step + 1) % len(training.batches)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rate(work: Callable[[], object], items: int, place: Place) -> float:
    """Items a second of ``work``, which does as many; it has run before."""
    done = 0
    _wait(place.device)
    began = time.perf_counter()
    while done == 0 or time.perf_counter() - began < place.size.seconds:
        for _ in range(place.size.steps):
            work()
        _wait(place.device)
        done += place.size.steps
    return done * items / (time.perf_counter() - began)


def _matmul_rate(place: Place) -> float:
    """Operations a second of a product of bf16 matrices: what there is to be had."""
    side = place.size.matmul
    factors = torch.randn(2, side, side, device=place.device, dtype=torch.bfloat16)
    product = functools.partial(torch.mm, factors[0], factors[1])
    product()
    return _rate(product, 2 * side**3, place)


def _operations(training: Training, batch: Batch) -> float:
    """Of a step, an image: those of matrix products, convolutions and attention, backward too."""
    few = batch.split(min(COUNTED, len(batch.ids)))[0]
    few = dataclasses.replace(few, whole=())
    with FlopCounterMode(display=False) as counter:
        _step(training, few)
    return counter.get_total_flops() / len(few.ids)


def steps(place: Place, batch: int, compiled: bool) -> Iterator[Row]:
    """Whole steps of a training, images decoded and on the device before."""
    part = functools.partial(Row, f"{'compiled' if compiled else 'eager'}, batch {batch}")
    most = _matmul_rate(place)
    yield part("bf16 matrix product", most / 1e12, "TFLOP/s")
    plain_rate, images = 0.0, None
    for way in (PLAIN, *WAYS):
        training = _training(place, batch, way)
        images = images or _batch(training, batch, place.device)
        operations = _operations(training, images)
        if compiled:
            torch._dynamo.reset()
            compile_blocks(training.backbone, place.size.compiler)
        step = functools.partial(_step, training, images)
        began = time.perf_counter()
        step()
        _wait(place.device)
        yield part(f"{way}, first step", time.perf_counter() - began, "s")
        for _ in range(2):  # the second has its drop path at other layers, and settles what the allocator keeps
            step()
        rate = _rate(step, batch, place)
        plain_rate = plain_rate or rate
        asked = way == PLAIN and compiled and batch == max(place.size.batches)
        goal = (f">= {LEAST_RATE:,}", rate >= LEAST_RATE) if asked else ()
        yield part(f"{way} step", rate, "images/s", *goal)
        yield part(f"{way} step, of the matrix product's rate", operations * rate / most, "share")
        if way != PLAIN:
            goal = (f"<= {MOST_COST:g}", plain_rate / rate <= MOST_COST) if way == ONLINE else ()
            yield part(f"{way} step against plain", plain_rate / rate, "times", *goal)
        yield part(f"{way} step, peak beyond weights", peak_bytes(step, place.device) / 2**20, "MiB")
        if way == PLAIN and not compiled:
            torch.use_deterministic_algorithms(False)
            step()
            yield part("plain step, kernels not held to one result", _rate(step, batch, place), "images/s")
            torch.use_deterministic_algorithms(True, warn_only=True)
        del training, step
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def loader(place: Place) -> Iterator[Row]:
    """The loader of a training by itself, and before the plain step: does the step wait?"""
    batch = max(place.size.batches)
    part = functools.partial(Row, f"loader, batch {batch}")
    training = _training(place, batch, PLAIN, "loaded")
    batches, count, numbers = training.batches, len(training.batches) * batch, itertools.count()

    def epoch(work: Callable[[Batch], object] = lambda images: None) -> float:
        began = time.perf_counter()
        for images in batches.epoch(next(numbers)):
            work(images)
        _wait(place.device)
        return count / (time.perf_counter() - began)

    yield part("first epoch, decodes", epoch(), "images/s")
    loaded_by = batches.loader.loader
    yield part("processes that load", 0 if loaded_by is None else loaded_by.num_workers, "processes")
    epoch()  # begins processes that know the decoded images
    yield part("later epochs, from memory", epoch(), "images/s")
    images = _batch(training, batch, place.device)
    step = functools.partial(_step, training, images)
    for kind in ("eager", "compiled"):
        if kind == "compiled":
            compile_blocks(training.backbone, place.size.compiler)
        for _ in range(3):
            step()
        alone = _rate(step, batch, place)
        yield part(f"{kind} step alone", alone, "images/s")
        fed = epoch(functools.partial(_step, training))
        yield part(f"{kind} step with the loader", fed, "images/s")
        goal = f">= {LEAST_FED:g}", fed / alone >= LEAST_FED
        yield part(f"{kind} step with the loader, of its rate alone", fed / alone, "share", *goal)
    for each in training.loaders():
        each.close()


def cams(place: Place) -> Iterator[Row]:
    """CAMs of every layer, with flip, as ``infer_cam`` makes them, against the bare passes of the same host."""
    part = functools.partial(Row, "CAMs")
    training = _training(place, max(place.size.batches), PLAIN, "located")
    host, dataset = training.backbone, training.dataset
    host.eval()
    ids = dataset.ids("train")
    for image_id in ids:  # they were decoded while the host was trained
        dataset.image(image_id)
    for name, config in {
        f"{place.size.side} px": CamInference(image_size=place.size.side),
        "native size": CamInference(),
    }.items():
        located = functools.partial(
            infer_cams, host, dataset, "train", config, device=place.device, loading=place.loading
        )
        next(iter(located()))
        _wait(place.device)
        began = time.perf_counter()
        found = sum(1 for _ in located())
        yield part(name, found / (time.perf_counter() - began), "images/s")
    images = _batch(training, min(len(ids), max(place.size.batches)), place.device).images

    def bare() -> None:
        with torch.no_grad(), autocast(place.device, "auto"):
            host(images)
            host(images.flip(-1))

    bare()
    yield part("bare passes of an image and its mirror", _rate(bare, len(images), place), "images/s")
    yield part("peak beyond weights", peak_bytes(lambda: sum(1 for _ in located()), place.device) / 2**20, "MiB")


def labels(place: Place) -> Iterator[Row]:
    """Pseudo-labels of six variants with PAR from stored CAMs: the stage as a trial runs it, decoded images at hand."""
    part = functools.partial(Row, f"labels, {len(SUBSETS) * len(RULES)} variants with PAR")
    component = Component(name="voc2012", config=_data(place, "labelled"))
    configs = [
        pseudo_label.Config(
            data=component,
            layers=layers,
            labels=LabelsConfig(refiner=Component(name="par", config=par.Config()), background_threshold=rule),
        )
        for layers in SUBSETS
        for rule in RULES
    ]
    runtime = Runtime(place.device.type == "cuda", images=_Kept(OwnImages(int(SHARE * usable_memory()))))
    context = StageContext(runtime, NoCheckpoint(), lambda row: None, lambda: False)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "cams")
        found.mkdir()
        write_cams(found, noisy_cams(voc2012.build(component.config), place.size.labelled))

        def run() -> None:
            out = Path(folder, str(next(numbers)))
            works = [
                Work(config, {"cams": found}, out / str(index), NoCheckpoint(), lambda row: None)
                for index, config in enumerate(configs)
            ]
            for work in works:
                work.out.mkdir(parents=True)
            for made in pseudo_label.run_together(works, context):
                if isinstance(made, Exception):
                    raise made

        peak = peak_bytes(run, place.device)
        began = time.perf_counter()
        run()
        yield part("all variants", place.size.labelled / (time.perf_counter() - began), "images/s")
    yield part("peak", peak / 2**20, "MiB")


def bank(place: Place) -> Iterator[Row]:
    """Trainings with AReAM in one process that share their batches, against as many processes with a part of the GPU
    each; epochs with their validation, by the last of which a decoded set is at hand."""
    batch = min(place.size.batches)
    part = functools.partial(Row, f"bank of {TOGETHER}, AReAM online, batch {batch}")
    together = sum(_last_epoch_rates(place, batch, TOGETHER))
    yield part("one process", together, "images/s, of all")
    if place.device.type == "cuda":
        torch.cuda.empty_cache()
    command = [sys.executable, "-m", "benchmarks.gpu_parts", place.device.type, _name(place.size), str(place.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(TOGETHER)]
    told = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a training with a part of the GPU failed")
    apart = sum(float(text.splitlines()[-1]) for text in told)
    yield part("a process each", apart, "images/s, of all")
    yield part("one process against a process each", together / apart, "times", ">= 1", together >= apart)


def _last_epoch_rates(place: Place, batch: int, count: int) -> list[float]:
    """Training images a second in the last epoch, of each of ``count`` trainings in a bank."""
    shared, ends = Bank(), [[] for _ in range(count)]  # type: list[list[float]]
    images = 0
    for times in ends:
        training = _training(place, batch, ONLINE, "banked", epochs=EPOCHS)
        images = len(training.batches) * batch
        shared.add(training, training.moves(report=lambda row, times=times: times.append(time.perf_counter())))
    for outcome in shared.run():
        if isinstance(outcome, Exception):
            raise outcome
    return [images / (times[-1] - times[-2]) for times in ends]


def _name(size: Size) -> str:
    return next(name for name, known in SIZES.items() if known == size)


@dataclass(frozen=True)
class _Kept:
    images: OwnImages

    def __call__(self) -> OwnImages:
        return self.images


def parts(size: Size) -> dict[str, tuple[Part, float]]:
    """By name, in the order of what they tell: the part, and the seconds that it may take on a GPU."""
    *smaller, largest = sorted(size.batches)
    found: dict[str, tuple[Part, float]] = {
        f"eager_{largest}": (functools.partial(steps, batch=largest, compiled=False), 70),
        f"compiled_{largest}": (functools.partial(steps, batch=largest, compiled=True), 150),
        "loader": (loader, 80),
        "cams": (cams, 40),
        "labels": (labels, 40),
        "bank": (bank, 60),
    }
    for batch in smaller:
        found[f"eager_{batch}"] = functools.partial(steps, batch=batch, compiled=False), 40
    for batch in smaller:
        found[f"compiled_{batch}"] = functools.partial(steps, batch=batch, compiled=True), 120
    return found


if __name__ == "__main__":
    kind, name, folder = sys.argv[1:]
    cores = max(1, len(os.sched_getaffinity(0)) // TOGETHER)
    Runtime(gpu=kind == "cuda", gpu_share=1 / TOGETHER).prepare()
    own = Place(SIZES[name], torch.device(kind), Path(folder), cores)
    print(*_last_epoch_rates(own, min(own.size.batches), 1))
