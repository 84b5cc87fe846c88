"""The ``train`` section: what decides about a host's training besides its data, network and method."""

from __future__ import annotations

import dataclasses
from typing import Literal

from aream.augmentations import deit
from aream.config import Component, added, component, config
from aream.engine.steps import OutOfMemoryPolicy
from aream.errors import ConfigError
from aream.images import MAX_SIDE


@config
class TrainConfig:
    epochs: int = 60
    """Passes over the training images, warm-up included; 0: the host is evaluated as ``backbone.weights`` has it, which
    then hold its trained head."""
    warmup_epochs: int | None = None
    """First epochs without the method's losses, shared by all that differ only in them; null: a sixth of the epochs
    (AReAM's scripts: 10 of 60 on MCTformer, 2 of 12 on Conformer)."""
    batch_size: int = 64
    """Images a step."""
    lr: float = 6.25e-5
    """AdamW's peak learning rate (DeiT's 5e-4 * 64 / 512)."""
    head_lr_scale: float = 1.0
    """Learning rate of the new CAM head, as a multiple of ``lr`` (AReAM on Conformer: 10)."""
    lr_warmup_epochs: int | None = None
    """Epochs over which the learning rate rises from 1e-6; null: a twelfth of the epochs (AReAM's scripts: 5 of 60 and
    1 of 12)."""
    lr_floor: float = 1e-5
    """Learning rate that a fall ends at."""
    schedule: Literal["cosine", "polynomial", "constant", "restart"] = "cosine"
    """One cosine over all epochs (MCTformer, AReAM on Conformer), so that a method that begins late learns in its
    tail; the share of all steps that is left to the power of 0.9 (MoRe, ACR); ``lr`` throughout; or a cosine over the
    warm-up and another, from its top, over the epochs after it. With the last two, trainings of other lengths share
    their warm-up."""
    method_lr: float | None = None
    """Peak learning rate after the warm-up, of a schedule that is ``constant`` or ``restart``; null: ``lr``."""
    schedule_step: Literal["epoch", "iteration"] = "epoch"
    """Time at which the learning rate changes: after an epoch, the cosine counted from the first one, so that an epoch
    has the rate of the one before and the first two have one (MCTformer), or at every step, the cosine counted from the
    end of the rise and all of it scaled for the head (AReAM on Conformer)."""
    weight_decay: float = 0.05
    """Weight decay, not applied to biases, norms and what the backbone names (``no_weight_decay``): MCTformer's class
    tokens decay, Conformer's does not, as the authors do."""
    image_size: int = 224
    """Side of the square training images, pixels; a multiple of the patch size."""
    augmentation: Component = component("aream.augmentations", Component(name="deit", config=deit.Config()))
    """Random changes of the training images: ``deit`` (MCTformer) or ``scale_and_crop`` (Conformer)."""
    select: Literal["best", "last"] = "best"
    """Weights kept: those of the epoch with the best val mAP after the warm-up (MCTformer), or the last. Deviates: the
    authors' loop takes an epoch of the warm-up too, whose weights know nothing of the method, and of epochs that tie
    the first; here it is the one of the better ``val/map``, then the last."""
    select_by: Literal["image", "class"] = "image"
    """The mAP that is best: average precision of an image's classes, averaged over images (``val/map_image``;
    MCTformer, AReAM), or of a class's images, averaged over classes (``val/map``). Where one of them cannot vary, as
    that of images with a single scored class, the other is used and the sweep says so. Deviates: the authors score by
    the class tokens alone, on the middle of an image (its shorter side at 8/7 of ``image_size``, then a crop), and all
    classes; here by the mean of all heads, on the whole image squeezed into the square, and the scored classes."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto is bf16 on a GPU and fp32 on a CPU. Deviates: the authors train and infer in
    fp32."""
    compile: bool | Literal["auto"] = added(False)
    """Whether torch compiles the host's transformer blocks, some minutes at the start of each training; auto does so on
    a GPU. Results differ by rounding. Not measured on a GPU yet, hence off."""
    out_of_memory: OutOfMemoryPolicy = "fail"
    """Answer to a batch that memory does not hold: fail, or accumulate gradients over ever smaller pieces of it. They
    add up to the same gradient but for rounding and random numbers, so the result depends on when memory ran out."""

    def __post_init__(self) -> None:
        if not 0 <= self.epochs <= 1_000_000:
            raise ConfigError(f"epochs: need a number in 0..1000000, got {self.epochs}")
        for name, most in {"batch_size": 65_536, "image_size": MAX_SIDE}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: need a positive number of at most {most}, got {getattr(self, name)}")
        if self.epochs == 0 and self.warmup:
            raise ConfigError(f"warmup_epochs: need 0 or null where epochs is 0, got {self.warmup_epochs}")
        if not 0 <= self.warmup < max(self.epochs, 1):
            raise ConfigError(
                f"warmup_epochs: need 0 <= warmup_epochs < epochs ({self.epochs}), got {self.warmup_epochs}"
            )
        if not 0 <= self.lr_warmup <= self.epochs:
            raise ConfigError(
                f"lr_warmup_epochs: need 0 <= lr_warmup_epochs <= epochs ({self.epochs}), got {self.lr_warmup_epochs}"
            )
        if not 0 <= self.lr_floor <= self.lr or self.lr == 0:
            raise ConfigError(
                f"lr, lr_floor: need 0 <= lr_floor <= lr and lr > 0, got lr {self.lr}, floor {self.lr_floor}"
            )
        if self.schedule == "restart" and self.lr_warmup > self.warmup:
            raise ConfigError(
                f"schedule: restart needs the rise within the warm-up, lr_warmup_epochs <= {self.warmup}, "
                f"got {self.lr_warmup}"
            )
        if self.method_lr is not None and (
            self.schedule not in ("constant", "restart") or not self.lr_floor <= self.method_lr > 0
        ):
            raise ConfigError(
                "method_lr: need a rate above 0, at least lr_floor, and schedule constant or restart, "
                f"got {self.method_lr} with schedule {self.schedule} and lr_floor {self.lr_floor}"
            )
        behind = int(self.schedule_step == "epoch")  # an epoch has the rate of the one before
        if (
            self.schedule == "constant"
            and self.method_lr not in (None, self.lr)
            and 0 < self.lr_warmup > self.warmup - behind
        ):
            raise ConfigError(
                "method_lr: need the rise to lr to be over when the warm-up is, "
                f"lr_warmup_epochs <= {max(0, self.warmup - behind)}, got {self.lr_warmup}"
            )
        if self.head_lr_scale <= 0 or self.weight_decay < 0:
            raise ConfigError(
                f"head_lr_scale, weight_decay: need a positive scale and a decay >= 0, "
                f"got {self.head_lr_scale} and {self.weight_decay}"
            )

    @property
    def warmup(self) -> int:
        """Epochs of the warm-up, given or not."""
        return self.epochs // 6 if self.warmup_epochs is None else self.warmup_epochs

    @property
    def lr_warmup(self) -> int:
        """Epochs of the learning rate's rise, given or not."""
        return self.epochs // 12 if self.lr_warmup_epochs is None else self.lr_warmup_epochs

    def resolved(self) -> TrainConfig:
        """The same with every length a number and nothing that has no effect, so that equal trainings have one
        identity."""
        if self.epochs == 0:
            read = {name: getattr(self, name) for name in ("batch_size", "image_size", "precision", "compile")}
            return TrainConfig(epochs=0, warmup_epochs=0, lr_warmup_epochs=0, select="last", **read)
        return dataclasses.replace(
            self,
            warmup_epochs=self.warmup,
            lr_warmup_epochs=self.lr_warmup,
            lr_floor=0.0 if self.schedule == "constant" else self.lr_floor,
            method_lr=None if self.method_lr == self.lr else self.method_lr,
        )

    def of_warmup(self) -> TrainConfig:
        """The same for the warm-up alone: what its epochs do not depend on is named alike for all."""
        own = dataclasses.replace(self.resolved(), select="best", select_by="image", method_lr=None)
        if self.schedule in ("cosine", "polynomial"):
            return own
        return dataclasses.replace(own, epochs=max(self.warmup + 1, self.lr_warmup))
