"""Training a host with a method, forked from the shared warm-up."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from aream.bank import Bank
from aream.config import Component, canonical, config
from aream.engine.ranks import ALONE, Ranks
from aream.errors import Interrupted, OutOfMemory
from aream.methods.protocol import Method
from aream.selection import remark, scored_labels
from aream.train import Training
from workers.components import build_method, read_entropies, refuse_untrained
from workers.metric import Metric, each_decision, each_measure, pulls_on_layers
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, Stage, StageContext, Work
from workers.stages import warmup
from workers.stages._training import keep, resume, train

log = logging.getLogger(__name__)

VERSION = 6
COMPUTES_ON: tuple[Part, ...] = ("device",)
GRADIENT = Metric(
    "train/method_gradient", "norm of the method's gradient as a multiple of the host's own, on the supervised layers; "
    "some steps of each epoch after the warm-up", "times", epochs=True, members=pulls_on_layers,
)  # fmt: skip
METRICS = (
    *warmup.METRICS,
    GRADIENT,
    Metric(
        "train/{}_share",
        "of the method's labels: pixels uncertain, pairs of patches alike or unlike; train images",
        members=each_measure,
        result=False,
        epochs=True,
    ),
    Metric(
        "host/{}",
        "what a setting of the backbone that its weights may decide about came to; 0: as published",
        "",
        members=each_decision,
    ),
    Metric("val/kept_epoch", "the epoch whose weights were kept", ""),
)
"""The record holds the selected epoch's."""


@config
class Config(warmup.Config):
    method: Component
    """Method resolved: its layers named one by one; without epochs a plain host's, since none acts."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``warmup``: the state to fork from; ``entropy``: layer entropies, where the method needs them.

    Without epochs the host is validated as its weights are, in a row of epoch 0.
    """
    training = _made(config, inputs, context)
    if config.train.epochs:
        train(training, context, start=_start(inputs))
    else:
        refuse_untrained(config.backbone, training.backbone)
        _validate(training, context)
    return _finished(training, out, context)


def shared(stage: Stage) -> Hashable | None:
    """They see the same images in the same order, and differ in their methods alone."""
    if stage.processes > 1 or stage.config.train.epochs == 0:
        return None
    config = canonical(stage.config)
    assert isinstance(config, dict)  # a stage's Config is a dataclass
    others = {name: value for name, value in config.items() if name != "method"}
    return json.dumps([others, dict(stage.fingerprints)], sort_keys=True)


def run_together(works: Sequence[Work], context: StageContext) -> Iterator[Row | Exception]:
    """A bank: each batch is made once, and the trainings take turns at it."""
    bank = Bank()
    context.runtime.forget_peak()
    for number, work in enumerate(works):
        if number:
            bank.begin()
            if context.runtime.memory_left() < bank.each_needs():
                log.info("memory holds %d of the %d trainings", number, len(works))
                break
        training = _made(work.config, work.inputs, context)
        resume(training, work.checkpoint, work.report, _start(work.inputs))
        bank.add(training, training.moves(report=work.report, checkpoints=context.checkpoints(work.checkpoint)))
        del training  # the bank lets one go that breaks off
    outcomes = bank.run()
    for work, seconds in zip(works, bank.seconds, strict=False):
        work.seconds = seconds
    for outcome in outcomes:
        if isinstance(outcome, Interrupted):  # as all of them were, each with its state saved
            raise outcome
    for work, outcome in zip(works, outcomes, strict=False):
        yield _finished(outcome, work.out, context) if isinstance(outcome, Training) else outcome
    for _ in works[len(outcomes) :]:
        yield OutOfMemory(f"memory does not hold it beside {len(outcomes)} of the trainings that share its batches")


def _made(config: Config, inputs: Mapping[str, Path], context: StageContext) -> Training:
    entropies = read_entropies(inputs["entropy"]) if "entropy" in inputs else None
    training = prepared(config, entropies, context.runtime, context.ranks)
    if context.writes and (said := remark(config.train, scored_labels(training.dataset))) is not None:
        log.warning(said)
    return training


def _validate(training: Training, context: StageContext) -> None:
    for _ in training.at_epoch_end(context.checkpoints()):
        pass
    for loader in training.loaders():
        loader.close()
    training.history.append(training.validated | {"epoch": 0.0})
    context.report(training.history[-1])


def _start(inputs: Mapping[str, Path]) -> Path | None:
    # Through the file even where the state is at hand: only so are all forks equal bit for bit.
    return inputs["warmup"] / warmup.STATE_FILE if "warmup" in inputs else None


def _finished(training: Training, out: Path, context: StageContext) -> Row:
    weights, val_map, epoch = training.selected()
    if context.writes:
        keep(training, weights, out)
    pulls = [row[GRADIENT.name] for row in training.history if GRADIENT.name in row]
    strength = {GRADIENT.name: sum(pulls) / len(pulls)} if pulls else {}
    host: Any = training.backbone
    decided = host.decisions() if hasattr(host, "decisions") else {}
    came_to = {f"host/{name}": value for name, value in decided.items()}
    return {"val/map": val_map, "val/kept_epoch": float(epoch), **strength, **came_to}


def prepared(config: Config, entropies: Float[Tensor, " l"] | None, runtime: Runtime, ranks: Ranks = ALONE) -> Training:
    """The training before its first step."""

    def method(host: Any, classes: int) -> Method:
        return build_method(
            config.method, host, classes, config.train.image_size, seed=config.seed, entropies=entropies
        )

    return warmup.prepared(config, runtime, ranks, method)
