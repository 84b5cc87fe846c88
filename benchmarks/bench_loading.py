"""Real images over some epochs with a network that does nothing: decoded once, against decoded at each reading.

Three paths, each in one process: images as they are, squares as validation and CAMs see them, and training batches with
the default augmentation, which costs more than decoding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from aream.augmentations import deit
from aream.config import Component
from aream.data.dataset import Dataset
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import voc2012
from aream.engine.batches import SquareImages, TrainingBatches
from benchmarks.measure import Kind, Result, median_seconds

DATA = Path(os.environ.get("AREAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "voc12_animals"
SIDE, BATCH, ROOM = 224, 16, 1 << 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = {"as_they_are": 16, "squares": 4, "augmented": 4}
REQUIRED = {"as_they_are": 6.0, "squares": 1.2, "augmented": 1.1}
"""Least ratio of each path: resizing and augmenting cost the same on both sides, and the first epoch decodes."""

KIND: Kind = "wall"  # of CPU seconds, but what only copies is slowed by whatever else uses the memory


def measure() -> list[Result]:
    plain = voc2012.build(voc2012.Config(root=str(DATA)))
    ids = list(plain.ids("train"))
    works = {"as_they_are": _as_they_are, "squares": _squares, "augmented": _augmented}
    return [_against_decoding(name, work, plain, ids) for name, work in works.items()]


Work = Callable[[Dataset, int], float]


def _as_they_are(dataset: Dataset, epoch: int) -> float:
    return float(sum(_first_red(dataset.image(image_id)) for image_id in dataset.ids("train")))


def _first_red(image: Image.Image) -> int:
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)  # mode RGB
    return pixel[0]


def _squares(dataset: Dataset, epoch: int) -> float:
    batches = SquareImages(dataset, SIDE, (MEAN, STD)).batches(dataset.ids("train"), BATCH)
    return float(sum(batch.images[:, :, 0, 0].double().sum() for batch in batches))


def _augmented(dataset: Dataset, epoch: int) -> float:
    made = TrainingBatches(
        dataset, side=SIDE, batch_size=BATCH, augmentation=Component(name="deit", config=deit.Config()), mean=MEAN,
        std=STD, seed=0,
    )  # fmt: skip
    return float(sum(batch.images[:, :, 0, 0].double().sum() for batch in made.epoch(epoch)))


def _against_decoding(name: str, work: Work, plain: Dataset, ids: list[str]) -> Result:
    images = OwnImages(ROOM)
    found: dict[str, list[float]] = {"ours": [], "baseline": []}
    once = DecodedOnce(plain, images)

    def epochs(side: str, dataset: Dataset) -> Callable[[], None]:
        return lambda: found[side].extend(work(dataset, epoch) for epoch in range(EPOCHS[name]))

    spent = median_seconds({"ours": epochs("ours", once), "baseline": epochs("baseline", plain)}, repeats=1)
    rates = {side: round(EPOCHS[name] * len(ids) / seconds) for side, seconds in spent.items()}
    return Result(
        name=f"loading_{name}",
        unit="CPU s",
        ours=spent["ours"],
        baseline=spent["baseline"],
        required=REQUIRED[name],
        input=f"{len(ids)} photos of VOC 2012, {EPOCHS[name]} epochs, {SIDE} px, one process, the first epoch decodes",
        same=found["ours"] == found["baseline"] and images.decoded == len(ids),
        difference=f"{rates['ours']} images/s against {rates['baseline']}; {images.decoded} decoded",
    )
