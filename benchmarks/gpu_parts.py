"""What ``benchmarks.gpu`` measures: each part yields its figures as they come.

A part runs in a process of its own, on the code that a trial runs: ``Training``, its loader and the stages, with the
kernels that ``Runtime.prepare`` sets.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from aream.bank import Bank
from aream.config import Component
from aream.data.decoded import OwnImages
from aream.datasets import voc2012
from aream.engine.batches import Batch, TrainingBatches
from aream.engine.compiled import compile_blocks
from aream.engine.device_images import DeviceImages
from aream.engine.steps import autocast
from aream.infer import CamInference, infer_cams
from aream.labels.pseudo_labels import LabelsConfig
from aream.refiners import par
from benchmarks.bench_labels import RULES, SUBSETS, noisy_cams
from benchmarks.gpu_workload import (
    ONLINE,
    PLAIN,
    SIZES,
    WAYS,
    Place,
    Row,
    Size,
    data,
    made_batches,
    made_training,
    matmul_rate,
    measured_rate,
    one_batch,
    operations_an_image,
    take_step,
    wait,
)
from benchmarks.measure import peak_bytes
from workers.checkpoint import NoCheckpoint
from workers.files.cams import write_cams
from workers.images import SHARE
from workers.processes.memory_limits import usable_memory
from workers.processes.runtime import Runtime
from workers.stage import StageContext, Work
from workers.stages import pseudo_label

Part = Callable[[Place], Iterator[Row]]
LEAST_RATE, MOST_COST, LEAST_FED = 7_500, 1.25, 0.95
"""Goals on an H100 or H200: images/s of the plain compiled step at the largest batch; the online step's time as a
multiple of the plain one's; the rate with the loader as a share of the rate without."""
TOGETHER, EPOCHS = 4, 3
"""Trainings of a bank, and their epochs: the first decodes, the second begins processes that know the images."""


@dataclass(frozen=True)
class _Kept:
    images: OwnImages

    def __call__(self) -> OwnImages:
        return self.images


def steps(place: Place, batch: int, compiled: bool) -> Iterator[Row]:
    """Whole steps of a training, images decoded and on the device before."""
    part = functools.partial(Row, f"{'compiled' if compiled else 'eager'}, batch {batch}")
    most = matmul_rate(place)
    yield part("bf16 matrix product", most / 1e12, "TFLOP/s")
    plain_rate, images = 0.0, None
    for way in (PLAIN, *WAYS):
        training = made_training(place, batch, way)
        images = images or one_batch(training, batch, place.device)
        operations = operations_an_image(training, images)
        if compiled:
            torch._dynamo.reset()
            compile_blocks(training.networks["model"], place.size.compiler)
        step = functools.partial(take_step, training, images)
        began = time.perf_counter()
        step()
        wait(place.device)
        yield part(f"{way}, first step", time.perf_counter() - began, "s")
        for _ in range(2):  # the second has its drop path at other layers, and settles what the allocator keeps
            step()
        rate = measured_rate(step, batch, place)
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
            yield part("plain step, kernels not held to one result", measured_rate(step, batch, place), "images/s")
            torch.use_deterministic_algorithms(True, warn_only=True)
        del training, step
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def loader(place: Place) -> Iterator[Row]:
    """The loader of a training by itself, and before the plain step: does the step wait?"""
    batch = max(place.size.batches)
    part = functools.partial(Row, f"loader, batch {batch}")
    training = made_training(place, batch, PLAIN, "loaded")
    count, numbers = len(training.batches) * batch, itertools.count()

    def epoch(batches: TrainingBatches, work: Callable[[Batch], object] = lambda images: None) -> float:
        began = time.perf_counter()
        for images in batches.epoch(next(numbers)):
            work(images)
        wait(place.device)
        return count / (time.perf_counter() - began)

    changed, kept = ", changed on the device", ", changed and kept on the device"
    batches = {
        "": training.batches,
        changed: made_batches(training, place, "deit_on_device"),
        kept: made_batches(
            training, place, "deit_on_device", DeviceImages(Runtime(gpu=place.device.type == "cuda").memory_left)
        ),
    }
    yield part("first epoch, decodes", epoch(training.batches), "images/s")
    loaded_by = training.batches.loader.loader
    yield part("processes that load", 0 if loaded_by is None else loaded_by.num_workers, "processes")
    for where, made in batches.items():
        epoch(made)  # begins processes that know the decoded images
        yield part(f"later epochs, from memory{where}", epoch(made), "images/s")
    images = one_batch(training, batch, place.device)
    step = functools.partial(take_step, training, images)
    for kind in ("eager", "compiled"):
        if kind == "compiled":
            compile_blocks(training.networks["model"], place.size.compiler)
        for _ in range(3):
            step()
        alone = measured_rate(step, batch, place)
        yield part(f"{kind} step alone", alone, "images/s")
        for where, made in batches.items():
            fed = epoch(made, functools.partial(take_step, training))
            yield part(f"{kind} step with the loader{where}", fed, "images/s")
            goal = f">= {LEAST_FED:g}", fed / alone >= LEAST_FED
            yield part(f"{kind} step with the loader{where}, of its rate alone", fed / alone, "share", *goal)
    for made in batches.values():
        made.loader.close()


def cams(place: Place) -> Iterator[Row]:
    """CAMs of every layer, with flip, as ``infer_cam`` makes them, against the bare passes of the same host."""
    part = functools.partial(Row, "CAMs")
    training = made_training(place, max(place.size.batches), PLAIN, "located")
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
        wait(place.device)
        began = time.perf_counter()
        found = sum(1 for _ in located())
        yield part(name, found / (time.perf_counter() - began), "images/s")
    images = one_batch(training, min(len(ids), max(place.size.batches)), place.device).images

    def bare() -> None:
        with torch.no_grad(), autocast(place.device, "auto"):
            host(images)
            host(images.flip(-1))

    bare()
    yield part("bare passes of an image and its mirror", measured_rate(bare, len(images), place), "images/s")
    yield part("peak beyond weights", peak_bytes(lambda: sum(1 for _ in located()), place.device) / 2**20, "MiB")


def labels(place: Place) -> Iterator[Row]:
    """Pseudo-labels of six variants with PAR from stored CAMs: the stage as a trial runs it, decoded images at hand."""
    part = functools.partial(Row, f"labels, {len(SUBSETS) * len(RULES)} variants with PAR")
    component = Component(name="voc2012", config=data(place, "labelled"))
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
    shared, images = Bank(), 0
    ends: list[list[float]] = [[] for _ in range(count)]
    for times in ends:
        training = made_training(place, batch, ONLINE, "banked", epochs=EPOCHS)
        images = len(training.batches) * batch
        shared.add(training, training.moves(report=functools.partial(_ended, times)))
    for outcome in shared.run():
        if isinstance(outcome, Exception):
            raise outcome
    return [images / (times[-1] - times[-2]) for times in ends]


def _ended(times: list[float], row: dict[str, float]) -> None:
    times.append(time.perf_counter())


def _name(size: Size) -> str:
    return next(name for name, known in SIZES.items() if known == size)


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
