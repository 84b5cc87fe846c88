"""Training an AffinityNet on what the CAMs of a host are sure of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNetConfig
from aream.affinity_net.train import TERMS, AffinityRun, AffinityTraining, ReadScores
from aream.config import Component, config
from aream.data.dataset import Dataset
from aream.refiners import psa
from aream.train import seed_everything
from workers.components import build_dataset
from workers.files.scores import read_scores
from workers.metric import Metric
from workers.processes.hardware import Part
from workers.processes.runtime import Runtime
from workers.stage import Row, Stage, StageContext
from workers.stages import affinity_scores
from workers.stages._training import keep, train
from workers.stages.warmup import IN_PIECES
from workers.staging.locations import localised

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ("device",)
METRICS = (
    Metric("train/affinity_loss", "the AffinityNet's loss, mean over an epoch", "", "min", epochs=True),
    *(
        Metric(f"train/{term}_loss", f"its {term} pairs, where there are some", "", "min", result=False, epochs=True)
        for term in TERMS
    ),
    IN_PIECES,
)


@config
class Config:
    data: Component
    network: AffinityNetConfig
    train: AffinityTraining
    seed: int


def stage(
    refiner: psa.Config, data: Component, layers: tuple[int, ...], seed: int, cams: Stage, prints: Mapping[str, str]
) -> Stage:
    """The training and what it needs, for a refiner of the CAMs that ``layers`` refined.

    How the walk goes is not read: all walks over one training's affinities share it.

    Args:
        prints: identities of the ``data``, and of the network's initial weights under its name.
    """
    scores = Stage(
        "affinity_scores",
        affinity_scores.Config(data=data, layers=layers, targets=refiner.targets),
        {"cams": cams},
        {"data": prints["data"]},
        cams.hardware,
    )
    trained = Config(data=data, network=refiner.network, train=refiner.train, seed=seed)
    return Stage("train_affinity", trained, {"scores": scores}, prints, cams.hardware)


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """Input ``scores``: what ``affinity_scores`` wrote."""
    dataset = build_dataset(config.data, context.runtime)

    def scores_of(image_id: str) -> np.ndarray:
        width, height = dataset.image(image_id).size
        return read_scores(affinity_scores.scores_file(inputs["scores"], image_id), (height, width))

    training = _prepared(config, dataset, scores_of, context.runtime)
    train(training, context)
    keep(training, training.weights(), out)
    return {"train/affinity_loss": training.history[-1]["train/affinity_loss"]}


def rehearse(config: Config, runtime: Runtime, steps: int) -> None:
    """A few steps on made-up scores, for what they take of a GPU."""
    dataset = build_dataset(config.data, runtime)

    def made_up(image_id: str) -> np.ndarray:
        width, height = dataset.image(image_id).size
        return np.random.default_rng(0).random((2, 2, height, width), dtype=np.float32)

    _prepared(config, dataset, made_up, runtime).rehearse(steps)


def _prepared(config: Config, dataset: Dataset, read_scores: ReadScores, runtime: Runtime) -> AffinityRun:
    """The training before its first step."""
    seed_everything(config.seed)
    network = affinity_network.build(localised(config.network))
    return AffinityRun(
        network, dataset, read_scores, config.train, config.seed, device=runtime.device, loading=runtime.loading
    )
