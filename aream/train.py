"""The training of a host: warm-up on image labels alone, then with the method's own losses."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from aream.backbones.protocol import Backbone, has_batch_norm
from aream.data.dataset import Dataset
from aream.engine.batches import Batch, SquareImages, TrainingBatches
from aream.engine.checkpoints import Checkpoints
from aream.engine.compiled import compile_blocks
from aream.engine.device_images import DeviceImages
from aream.engine.gradient_share import GradientShare
from aream.engine.loading import HERE, Loader, Loading
from aream.engine.loop import Place, TrainingLoop
from aream.engine.losses import classification_loss
from aream.engine.randomness import WholeBatchDraws
from aream.engine.ranks import ALONE, Ranks
from aream.engine.steps import MicroBatches, advice, autocast, placed, refuse_loss
from aream.engine.validation import Scores, scores_in_turn, validation_scores
from aream.errors import ConfigError, DivergedError
from aream.methods.protocol import Method, Progress, Terms
from aream.metrics import mean_average_precision
from aream.optimiser import Schedule, parameter_groups
from aream.selection import judge, rank, scored_labels
from aream.train_config import TrainConfig

MEASURED = 4
"""Steps of an epoch, evenly spaced, in which the method's gradient is held against the host's own."""


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Training(TrainingLoop[Batch]):
    """One host's training; make it right after :func:`seed_everything`, or restore a state into it."""

    def __init__(
        self,
        backbone: Backbone,
        method: Method | None,
        dataset: Dataset,
        config: TrainConfig,
        seed: int,
        *,
        device: torch.device,
        loading: Loading = HERE,
        ranks: Ranks = ALONE,
        kept_images: DeviceImages | None = None,
    ) -> None:
        """
        Args:
            method: None trains the warm-up only.
            kept_images: on the device, where the augmentation changes pixels there.

        Raises:
            ConfigError: what several ``ranks`` cannot train.
        """
        self.backbone, self.method, self.dataset, self.config, self.ranks = backbone, method, dataset, config, ranks
        networks: dict[str, Any] = {"model": backbone}
        if method is not None and method.network is not None:
            networks["method"] = method.network
        if ranks.size > 1 and any(has_batch_norm(network) for network in networks.values()):
            raise ConfigError(
                "the network has batch norm, which sees the images of one process only: train it with one"
            )
        for network in networks.values():
            placed(network, device)
        if config.compile is True:
            compile_blocks(cast(torch.nn.Module, backbone))
        self.batches = TrainingBatches(
            dataset,
            side=config.image_size,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
            mean=backbone.mean,
            std=backbone.std,
            seed=seed,
            loading=loading,
            rank=ranks.rank,
            ranks=ranks.size,
            device=device,
            kept=kept_images,
        )
        self.val_images = SquareImages(dataset, config.image_size, (backbone.mean, backbone.std), loading)
        groups = parameter_groups(
            backbone,
            networks.get("method"),
            lr=config.lr,
            head_lr_scale=config.head_lr_scale,
            weight_decay=config.weight_decay,
        )
        pieces = MicroBatches(self.batches.batch_size, config.out_of_memory, advice("train", config, "image_size"))
        pieces.spare = kept_images
        pieces.size = -(-pieces.batch_size // ranks.size)  # the most images of one process
        super().__init__(
            networks,
            torch.optim.AdamW(groups, lr=config.lr, fused=device.type == "cuda"),
            pieces,
            epochs=config.epochs,
            precision=config.precision,
            device=device,
        )
        self.judged_by = judge(config, scored_labels(dataset))
        self.schedule = Schedule(self.optimizer, config, len(self.batches))
        self.best: dict[str, Any] | None = None
        self.validated: dict[str, float] = {}
        """What the epoch's validation found."""

    def own_state(self) -> dict[str, Any]:
        return {"best": self.best}

    def restore_own_state(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]

    def batches_left(self) -> Iterator[Batch]:
        return self.batches.epoch(self.epoch, self.step)

    def loaders(self) -> Sequence[Loader[Any, Any]]:
        return self.batches.loader, self.val_images.loader

    def set_rates(self) -> None:
        self.schedule.set(self.epoch, self.step)

    def at_epoch_end(self, checkpoints: Checkpoints) -> Iterator[Place]:
        """
        Raises:
            DivergedError: scores that are not finite.
            Interrupted: asked to stop; the state is that of the epoch's last step.
        """
        # A validation that never asks would count as stalled.
        turns = scores_in_turn(
            self.backbone,
            self.dataset,
            **self._of_validation(),
            after_each=lambda: checkpoints.leave_if_asked(self.state),
        )
        while True:
            try:
                yield self.epoch, 1, next(turns)
            except StopIteration as end:
                self.validated = self.judged(end.value)
                return

    def epoch_row(self, checkpoints: Checkpoints) -> dict[str, float]:
        row = self.figures.means(f"epoch {self.epoch + 1}") | self.validated
        row |= {"epoch": float(self.epoch + 1), "lr": self.optimizer.param_groups[0]["lr"]}
        after_warmup = self.epoch >= self.config.warmup
        if after_warmup and (self.best is None or rank(row, self.judged_by) > rank(self.best, self.judged_by)):
            self.best = row | copy.deepcopy(self.weights())
        return row

    def rehearse(self, steps: int) -> None:
        """A few steps with the method's losses."""
        self.epoch = self.config.warmup
        super().rehearse(steps)

    def selected(self) -> tuple[dict[str, dict[str, Any]], float, int]:
        """Weights to keep of each network, their val mAP and their epoch, from 1, by ``config.select``."""
        if self.config.select == "best" and self.best is not None:
            kept: Mapping[str, Any] = self.best
        else:
            kept = self.history[-1] | self.weights()
        return {name: kept[name] for name in self.networks}, float(kept["val/map"]), int(kept["epoch"])

    def gradients(self, batch: Batch, size: int, place: str) -> dict[str, Float64[Tensor, ""]]:
        """Losses and gradients of the whole batch, whatever part of it is this process's."""
        gradients_of_terms = self._measured()
        with self.ranks.together():
            row = self.gradients_of_part(batch, size, place, gradients_of_terms)
            sums = torch.stack([*row.values()])
            gradients = [part.grad for part in self.networks.parameters() if part.grad is not None]
            self.ranks.add([sums, *gradients])
            shares = {} if gradients_of_terms is None else gradients_of_terms.measures(self.ranks)
        return dict(zip(row, sums, strict=True)) | shares

    def _measured(self) -> GradientShare | None:
        """Return where the method's gradient is held against the host's own in this step; None: it is not."""
        method, steps = self._method(), len(self.batches)
        layers = () if method is None else method.supervised_layers()
        if not layers or self.step not in {index * steps // MEASURED for index in range(MEASURED)}:
            return None
        return GradientShare({layer: list(self.backbone.layer_parameters(layer)) for layer in layers})

    def _method(self) -> Method | None:
        return self.method if self.epoch >= self.config.warmup else None

    def gradients_of_part(
        self, batch: Batch, size: int, place: str, gradients_of_terms: GradientShare | None = None
    ) -> dict[str, Float64[Tensor, ""]]:
        """Return what the images of ``batch`` add to its losses and gradients, from passes of at most ``size`` of
        them."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = [part.to(self.device) for part in batch.split(size)]
        method, steps, warmup = self._method(), len(self.batches), self.config.warmup
        progress = Progress((self.epoch - warmup) * steps + self.step, (self.config.epochs - warmup) * steps)
        with self._arithmetic(parts):
            auxiliary = [] if method is None else method.losses_of_parts(self.backbone, parts, self.ranks, progress)
        sums: dict[str, Float64[Tensor, ""]] = {}
        for index, part in enumerate(parts):
            with self._arithmetic(parts):
                output = self.backbone(part.images)
                mean = classification_loss(tuple(x.float() for x in output.logits), part.labels)
                share = len(part.ids) / len(batch.all_ids)
                own = {"classification": mean, **output.host_losses(part.labels)}
                losses = {name: term * share for name, term in own.items()}
                terms = Terms({}) if method is None else auxiliary[index](output)
            if clash := losses.keys() & terms.losses.keys():
                raise ConfigError(f"method: its term {min(clash)} has the name of one of the host's own")
            self._backward(losses, terms, place, part.ids, gradients_of_terms)
            row = {f"train/{name}_loss": term.detach().double() for name, term in (losses | terms.figures()).items()}
            row |= {f"train/{name}_share": value.double() * share for name, value in terms.measures.items()}
            for name, value in row.items():
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def _backward(
        self,
        own: Mapping[str, torch.Tensor],
        terms: Terms,
        place: str,
        ids: Sequence[str],
        gradients_of_terms: GradientShare | None,
    ) -> None:
        """The gradients of the host's own terms and of the method's, these only as deep as they may reach."""

        def scaled(losses: Iterable[torch.Tensor]) -> torch.Tensor:
            return self.scaler.scale(torch.stack([*losses]).sum())

        every = {**own, **terms.losses}
        refuse_loss(self.checks, every, torch.stack([*every.values()]).sum(), place, ids)
        reach, compared = terms.taught_from, [name for name in terms.losses if name not in terms.classifying]
        if gradients_of_terms is not None:
            for first in {reach.get(name, 0) for name in compared}:
                gradients_of_terms.add(scaled(terms.losses[n] for n in compared if reach.get(n, 0) == first), first)
        for first in sorted(set(reach.values())):
            layers = range(first, self.backbone.depth)
            taught = [part for layer in layers for part in self.backbone.layer_parameters(layer)]
            if "method" in self.networks:
                taught += self.networks["method"].parameters()
            some = scaled(every[name] for name, layer in reach.items() if layer == first)
            some.backward(inputs=taught, retain_graph=True)
        scaled(term for name, term in every.items() if name not in reach).backward()

    def _arithmetic(self, parts: Sequence[Batch]) -> contextlib.AbstractContextManager[Any]:
        """Return the context of the passes of this process's images; pieces draw random numbers of their own, as on one
        process."""
        stack = contextlib.ExitStack()
        stack.enter_context(autocast(self.device, self.config.precision))
        if self.ranks.size > 1 and len(parts) == 1:
            (part,) = parts
            stack.enter_context(WholeBatchDraws(part.first, len(part.ids), len(part.all_ids)))
        return stack

    def validate(self) -> dict[str, float]:
        """Mean average precision of the val split's image labels: over the dataset's scored classes, over all classes,
        and over images (of the scored classes, an image at a time).

        Raises:
            DivergedError: scores that are not finite.
        """
        return self.judged(validation_scores(self.backbone, self.dataset, **self._of_validation()))

    def _of_validation(self) -> dict[str, Any]:
        return {
            "side": self.config.image_size,
            "images": self.val_images,
            "batch_size": min(self.config.batch_size, self.pieces.size),
            "device": self.device,
            "precision": self.config.precision,
            "ranks": self.ranks,
        }

    def judged(self, found: Scores) -> dict[str, float]:
        """What :meth:`validate` returns, of the scores."""
        scores, labels = found
        if not np.isfinite(scores).all():
            raise DivergedError(f"scores of val images are not finite after epoch {self.epoch + 1}")
        scored = [mask_id - 1 for mask_id in self.dataset.scored_classes if mask_id > 0]
        return {
            "val/map": mean_average_precision(scores[:, scored], labels[:, scored]),
            "val/map_all": mean_average_precision(scores, labels),
            "val/map_image": mean_average_precision(scores[:, scored].T, labels[:, scored].T),
        }
