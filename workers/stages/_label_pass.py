"""One pass over images and their CAMs for any number of label variants: what they have in common is made once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from aream.config import Component
from aream.data.dataset import Dataset
from aream.errors import DataError
from aream.infer import ImageCams
from aream.labels.label_free import Contrast
from aream.labels.pseudo_labels import LabelsConfig, ThresholdSearch
from aream.refiners.protocol import Refiner
from workers.components import build_refiner
from workers.files.cams import read_cams
from workers.files.levels import LevelFile
from workers.stage import StageContext

BATCH_PIXELS = 2**17


@dataclass
class Counted:
    """Scores of one kind at the thresholds of one grid: counted, and kept where labels are made of them."""

    layers: tuple[int, ...]
    """Whose mean affinity refines the CAM."""
    refiner: Component
    weights: Path | None
    """Of the refiner's network, where one was trained."""
    search: ThresholdSearch
    kept: LevelFile | None = None
    failure: Exception | None = None


class LabelPass:
    """A context: what it keeps of the images is gone at its end."""

    def __init__(self, dataset: Dataset, folder: Path, scratch: Path, device: torch.device) -> None:
        """``folder`` holds the CAMs; level maps lie under ``scratch``."""
        self.dataset, self.folder, self.scratch, self.device = dataset, folder, scratch, device
        self.counted: dict[Hashable, Counted] = {}
        self.files = contextlib.ExitStack()

    def __enter__(self) -> LabelPass:
        return self

    def __exit__(self, *error: object) -> None:
        self.files.close()

    def count(self, layers: tuple[int, ...], labels: LabelsConfig, weights: Path | None, *, keep: bool) -> Counted:
        """What will be counted, one for all who ask for the same."""
        thresholds = labels.grid()
        key = layers, labels.refiner, weights, tuple(thresholds)
        if key not in self.counted:
            search = ThresholdSearch(thresholds, len(self.dataset.class_names) + 1, self.device)
            self.counted[key] = Counted(layers, labels.refiner, weights, search)
        found = self.counted[key]
        if keep and found.kept is None:
            found.kept = LevelFile(self.scratch)
            self.files.callback(found.kept.close)
        return found

    def run(self, context: StageContext) -> None:
        """Count every image. What only some fail at is their ``failure``, and the others go on.

        Raises:
            DataError: there is no image.
            AreamError: of what all have in common: an image that does not decode, CAMs that cannot be read.
        """
        refiners: dict[Hashable, Refiner] = {}
        images = 0
        for batch in context.watched(same_sized(read_cams(self.folder))):
            images += len(batch)
            shown = _Shown(batch, self.dataset, self.device)
            going = [counted for counted in self.counted.values() if counted.failure is None]
            for maker, of_maker in _grouped(going, lambda counted: (counted.refiner, counted.weights)):
                with _failing(of_maker):
                    if maker not in refiners:
                        refiners[maker] = build_refiner(maker[0], maker[1], self.device)
                    kernel = refiners[maker].kernel(shown.pixels) if shown.most else None
                    for layers, of_scores in _grouped(of_maker, lambda counted: counted.layers):
                        with _failing(of_scores):
                            scores = shown.stacked(layers)
                            if shown.most:
                                scores = refiners[maker].refine(kernel, scores)
                            for counted in of_scores:
                                shown.count(scores, counted)
        if images == 0:
            raise DataError("no image to label: the train split is empty")


def _grouped(counted: Iterable[Counted], by: Callable[[Counted], Any]) -> Iterable[tuple[Any, list[Counted]]]:
    groups: dict[Any, list[Counted]] = {}
    for one in counted:
        groups.setdefault(by(one), []).append(one)
    return groups.items()


@contextlib.contextmanager
def _failing(group: Sequence[Counted]) -> Iterator[None]:
    """What goes wrong in the body is a failure of the group's, which takes no further part."""
    try:
        yield
    except Exception as error:
        for counted in group:
            counted.failure = error


class _Shown:
    """Images of one size, with what all that is counted reads of them."""

    def __init__(self, batch: Sequence[ImageCams], dataset: Dataset, device: torch.device) -> None:
        self.batch = batch
        images = torch.stack([_pixels(dataset, cams.image_id) for cams in batch]).to(device)
        masks = [dataset.mask(cams.image_id) for cams in batch]
        self.masks = [None if mask is None else torch.from_numpy(mask).to(device) for mask in masks]
        self.contrasts = [Contrast.of(image) for image in images]
        self.pixels = images.float().permute(0, 3, 1, 2) / 255
        self.most = max(len(cams.classes) for cams in batch)
        self._stacks: dict[tuple[int, ...], Float32[Tensor, "b k h w"]] = {}

    def stacked(self, layers: tuple[int, ...]) -> Float32[Tensor, "b k h w"]:
        """CAMs at image size after refinement by layers; channels that an image has less than others are 0."""
        if layers not in self._stacks:
            stack = self.pixels.new_zeros(len(self.batch), self.most, *self.pixels.shape[2:])
            for cams, maps in zip(self.batch, stack, strict=True):
                maps[: len(cams.classes)] = cams.combined(layers, stack.device)
            self._stacks[layers] = stack
        return self._stacks[layers]

    def count(self, scores: Float32[Tensor, "b k h w"], counted: Counted) -> None:
        for cams, maps, mask, contrast in zip(self.batch, scores, self.masks, self.contrasts, strict=True):
            ids = [index + 1 for index in cams.classes]
            levels = counted.search.add(cams.image_id, maps[: len(ids)], ids, mask, contrast)
            if counted.kept is not None:
                counted.kept.append(cams.image_id, levels)


def same_sized(images: Iterable[ImageCams]) -> Iterator[list[ImageCams]]:
    """Consecutive images of one size, as many as ``BATCH_PIXELS`` allow: small ones would cost mostly calls."""
    batch: list[ImageCams] = []
    for cams in images:
        height, width = cams.size
        if batch and (batch[0].size != cams.size or (len(batch) + 1) * height * width > BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(cams)
    if batch:
        yield batch


def _pixels(dataset: Dataset, image_id: str) -> UInt8[Tensor, "h w 3"]:
    return torch.from_numpy(np.array(dataset.image(image_id)))
