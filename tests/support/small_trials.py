"""A trial that is trained in a moment, and a place to run its stages in."""

from __future__ import annotations

import dataclasses

from aream.affinity_net.network import AffinityNetConfig
from aream.affinity_net.targets import AffinityScores
from aream.affinity_net.train import AffinityTraining
from aream.augmentations import deit
from aream.backbones import mctformer_v2
from aream.config import Component
from aream.data.examination import inspect
from aream.datasets import shapes
from aream.methods import aream
from aream.refiners import psa
from aream.train import TrainConfig
from workers.artifacts.opening import open_store
from workers.components import build_dataset
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner
from workers.trial import InferenceSection, TrialConfig

DATA = Component(name="shapes", config=shapes.Config(image_size=32, train_images=10, val_images=4))
TRIAL = TrialConfig(
    data=DATA,
    backbone=Component(
        name="mctformer_v2",
        config=mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2),
    ),
    method=Component(name="aream", config=aream.Config()),
    train=TrainConfig(
        epochs=3, warmup_epochs=1, batch_size=4, lr=1e-3, lr_warmup_epochs=1, image_size=32,
        augmentation=Component(name="deit", config=deit.Config(rand_augment=None, crop_scale=(0.5, 1.0))),
    ),
    inference=InferenceSection(image_size=32),
)  # fmt: skip

PSA = psa.Config(
    logt=2,
    targets=AffinityScores(scores="plain"),
    network=AffinityNetConfig(width=2, depths=(1, 1, 1, 1)),
    train=AffinityTraining(epochs=2, batch_size=2, crop=72, lr=0.02),
)


def fingerprint(component: Component) -> str:
    return inspect(build_dataset(component))


def with_method(trial: TrialConfig, **changes) -> TrialConfig:
    config = dataclasses.replace(trial.method.config, **changes)
    return dataclasses.replace(trial, method=Component(name=trial.method.name, config=config))


class Killed(BaseException):
    """Stands for a kill: nothing in product code may catch it."""


class Work:
    """A store and checkpoints in a folder, and stages run in this process."""

    def __init__(self, folder, die_after: int | None = None, checkpoint_s: float = 60.0):
        self.store, self.rows = open_store(None, folder / "store"), []
        self.die_after, self.dying = die_after, "train_cam"
        runtime = Runtime(checkpoint_s=checkpoint_s)
        self.runner = StageRunner(self.store, runtime, self.report)

    def report(self, stage, row):
        self.rows.append((stage.name, row))
        if self.die_after is not None and [name for name, _ in self.rows].count(self.dying) == self.die_after:
            raise Killed

    def digests(self, stage):
        return [(entry.path, entry.sha256) for entry in self.store.files(self.runner.run(stage))]
