"""The training loop of a host: warm-up on image labels alone, then with the method's own losses.

Everything a continuation needs is in one state (model, optimizer, loss scaler, epoch, step, random states, best
model): a training restored from it goes on bit for bit, on the same machine, as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from aream.backbones._protocol import Backbone, has_batch_norm
from aream.data._protocol import Dataset
from aream.engine.batches import Batch, TrainingBatches
from aream.engine.checkpoints import Checkpoints, Report
from aream.engine.epoch_means import EpochMeans
from aream.engine.gradient_share import GradientShare
from aream.engine.losses import classification_loss
from aream.engine.randomness import WholeBatchDraws, random_state, restore_random_state
from aream.engine.ranks import ALONE, Ranks
from aream.engine.steps import Pieces, apply_gradients, autocast, refuse_loss, refuse_row
from aream.engine.validation import validation_scores
from aream.errors import ConfigError, DivergedError
from aream.methods._protocol import Method, Progress, Terms
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


class Training:
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
        loader_workers: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        """``method`` None trains the warm-up only.

        Raises:
            ConfigError: what several ``ranks`` cannot train.
        """
        self.backbone, self.method, self.dataset, self.config, self.device, self.ranks = (
            backbone, method, dataset, config, device, ranks,
        )  # fmt: skip
        if ranks.size > 1 and has_batch_norm(backbone):
            raise ConfigError(
                "the backbone has batch norm, which sees the images of one process only: train it with one"
            )
        backbone.to(device)
        self.batches = TrainingBatches(
            dataset,
            side=config.image_size,
            batch_size=config.batch_size,
            augmentation=config.augmentation,
            mean=backbone.mean,
            std=backbone.std,
            seed=seed,
            loader_workers=loader_workers,
            rank=ranks.rank,
            ranks=ranks.size,
        )
        groups = parameter_groups(
            backbone, lr=config.lr, head_lr_scale=config.head_lr_scale, weight_decay=config.weight_decay
        )
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr)
        self.judged_by = judge(config, scored_labels(dataset))
        self.schedule = Schedule(self.optimizer, config, len(self.batches))
        fp16 = config.precision == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.pieces = Pieces(
            self.batches.batch_size,
            config.out_of_memory,
            f"lower train.batch_size ({config.batch_size}) or train.image_size ({config.image_size})"
            + (", or set train.out_of_memory to accumulate" if config.out_of_memory == "fail" else ""),
        )
        self.pieces.size = -(-self.batches.batch_size // ranks.size)  # the most images of one process
        self.epoch, self.step = 0, 0
        self.figures = EpochMeans()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        return {
            "model": self.backbone.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "figures": self.figures.sums,
            "history": self.history,
            "best": self.best,
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``; trainings forked from one state do not share memory."""
        state = copy.deepcopy(dict(state))
        self.backbone.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.pieces.size = state["epoch"], state["step"], state["micro_batch"]
        self.figures.sums, self.history, self.best = state["figures"], state["history"], state["best"]
        restore_random_state(state["random"])

    def run(self, until: int, *, report: Report, checkpoints: Checkpoints | None = None) -> None:
        """Train up to and without epoch ``until``, reporting one row of metrics an epoch.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
        """
        while self.epoch < until:
            self._train_epoch(checkpoints)
            row = self.figures.means()
            row |= self.validate(checkpoints) | {
                "epoch": float(self.epoch + 1),
                "lr": self.optimizer.param_groups[0]["lr"],
            }
            row |= self.pieces.row()
            refuse_row(row, f"epoch {self.epoch + 1}")
            self.history.append(row)
            self.epoch, self.step, self.figures = self.epoch + 1, 0, EpochMeans()
            past_warmup = self.epoch > self.config.warmup
            if past_warmup and (self.best is None or rank(row, self.judged_by) > rank(self.best, self.judged_by)):
                weights = {name: value.clone() for name, value in self.backbone.state_dict().items()}
                self.best = {**row, "model": weights}
            if checkpoints is not None:
                keep = checkpoints.after_epoch if self.epoch < until else checkpoints.after_last_epoch
                keep(self.state)
            report(row)
            if checkpoints is not None and self.epoch < until:
                checkpoints.leave_if_asked(self.state)

    def rehearse(self, steps: int) -> None:
        """A few steps with the method's losses, for what they take; the state is of no use afterwards."""
        self.epoch = self.config.warmup
        self.backbone.train()
        for batch in itertools.islice(self.batches.epoch(self.epoch), steps):
            self._train_step(batch)

    def selected(self) -> tuple[dict[str, Any], float, int]:
        """Weights to keep, their val mAP and their epoch, from 1, by ``config.select``."""
        if self.config.select == "best" and self.best is not None:
            return self.best["model"], float(self.best["val/map"]), int(self.best["epoch"])
        last = self.history[-1]
        return self.backbone.state_dict(), float(last["val/map"]), int(last["epoch"])

    def _train_epoch(self, checkpoints: Checkpoints | None) -> None:
        self.backbone.train()
        for batch in self.batches.epoch(self.epoch, self.step):
            self.schedule.set(self.epoch, self.step)
            self.figures.add(self._train_step(batch))
            self.step += 1
            if checkpoints and self.step < len(self.batches):
                checkpoints.after_step(self.state)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        row = self.pieces.run(self.backbone, lambda size: self._summed_gradients(batch, size, place), place)
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, place, batch.all_ids)
        return row

    def _summed_gradients(self, batch: Batch, size: int, place: str) -> dict[str, float]:
        """Losses and gradients of the whole batch, whatever part of it is this process's."""
        gradients_of_terms = self._measured()
        with self.ranks.together():
            row = self._gradients(batch, size, place, gradients_of_terms)
            sums = torch.tensor(list(row.values()), dtype=torch.float64)
            gradients = [part.grad for part in self.backbone.parameters() if part.grad is not None]
            self.ranks.add([sums, *gradients])
            shares = {} if gradients_of_terms is None else gradients_of_terms.measures(self.ranks)
        return dict(zip(row, sums.tolist(), strict=True)) | shares

    def _measured(self) -> GradientShare | None:
        """Where the method's gradient is held against the host's own in this step; None: it is not."""
        method, steps = self._method(), len(self.batches)
        layers = () if method is None else method.supervised_layers()
        if not layers or self.step not in {index * steps // MEASURED for index in range(MEASURED)}:
            return None
        return GradientShare([part for layer in layers for part in self.backbone.layer_parameters(layer)])

    def _method(self) -> Method | None:
        return self.method if self.epoch >= self.config.warmup else None

    def _gradients(
        self, batch: Batch, size: int, place: str, gradients_of_terms: GradientShare | None = None
    ) -> dict[str, float]:
        """What the images of ``batch`` add to its losses and gradients, from passes of at most ``size`` of them."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = [part.to(self.device) for part in batch.split(size)]
        method, steps, warmup = self._method(), len(self.batches), self.config.warmup
        progress = Progress((self.epoch - warmup) * steps + self.step, (self.config.epochs - warmup) * steps)
        with self._arithmetic(parts):
            auxiliary = [] if method is None else method.losses_of_parts(self.backbone, parts, self.ranks, progress)
        sums: dict[str, float] = {}
        for index, part in enumerate(parts):
            with self._arithmetic(parts):
                output = self.backbone(part.images)
                mean = classification_loss(tuple(x.float() for x in output.logits), part.labels)
                share = len(part.ids) / len(batch.all_ids)
                own = {"classification": mean, **output.host_losses(part.labels)}
                losses = {name: term * share for name, term in own.items()}
                terms = Terms({}) if method is None else auxiliary[index](output)
            self._backward(losses, terms.losses, place, part.ids, gradients_of_terms)
            row = {f"train/{name}_loss": term.item() for name, term in (losses | terms.losses).items()}
            row |= {f"train/{name}_share": value * share for name, value in terms.measures.items()}
            for name, value in row.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    def _backward(
        self,
        own: Mapping[str, torch.Tensor],
        added: Mapping[str, torch.Tensor],
        place: str,
        ids: Sequence[str],
        gradients_of_terms: GradientShare | None,
    ) -> None:
        """The gradients of the host's own terms and of the method's, these only as deep as they may reach."""
        total = torch.stack([*own.values(), *added.values()]).sum()
        refuse_loss({**own, **added}, total, place, ids)
        if not added:
            self.scaler.scale(total).backward()
            return
        of_host, of_method = (self.scaler.scale(torch.stack([*part.values()]).sum()) for part in (own, added))
        if gradients_of_terms is not None:
            gradients_of_terms.add(of_host, of_method)
        first = None if self.method is None else self.method.first_taught_layer()
        if first is None:
            self.scaler.scale(total).backward()
            return
        taught = [part for layer in range(first, self.backbone.depth) for part in self.backbone.layer_parameters(layer)]
        of_method.backward(inputs=taught, retain_graph=True)
        of_host.backward()

    def _arithmetic(self, parts: Sequence[Batch]) -> contextlib.AbstractContextManager[Any]:
        """Of the passes of this process's images; pieces draw random numbers of their own, as on one process."""
        stack = contextlib.ExitStack()
        stack.enter_context(autocast(self.device, self.config.precision))
        if self.ranks.size > 1 and len(parts) == 1:
            (part,) = parts
            stack.enter_context(WholeBatchDraws(part.first, len(part.ids), len(part.all_ids)))
        return stack

    def validate(self, checkpoints: Checkpoints | None = None) -> dict[str, float]:
        """Mean average precision of the val split's image labels: over the dataset's scored classes, over all classes,
        and over images (of the scored classes, an image at a time).

        Raises:
            DivergedError: scores that are not finite.
            Interrupted: asked to stop; the state is that of the epoch's last step.
        """
        scores, labels = validation_scores(
            self.backbone,
            self.dataset,
            side=self.config.image_size,
            batch_size=min(self.config.batch_size, self.pieces.size),
            device=self.device,
            precision=self.config.precision,
            ranks=self.ranks,
            # A validation that never asks would count as stalled.
            after_each=lambda: checkpoints.leave_if_asked(self.state) if checkpoints is not None else None,
        )
        if not np.isfinite(scores).all():
            raise DivergedError(f"scores of val images are not finite after epoch {self.epoch + 1}")
        scored = [mask_id - 1 for mask_id in self.dataset.scored_classes if mask_id > 0]
        return {
            "val/map": mean_average_precision(scores[:, scored], labels[:, scored]),
            "val/map_all": mean_average_precision(scores, labels),
            "val/map_image": mean_average_precision(scores[:, scored].T, labels[:, scored].T),
        }
