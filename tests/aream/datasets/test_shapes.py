from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aream.data.dataset import Dataset
from aream.data.examination import inspect
from aream.datasets import shapes
from aream.errors import ConfigError
from aream.metrics import IGNORE

SMALL = shapes.Config(image_size=64, train_images=120, val_images=10)


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(SMALL)


def test_is_a_dataset_whose_labels_are_seen_in_its_masks(dataset):
    assert isinstance(dataset, Dataset)
    for image_id in dataset.ids("train"):
        image, mask, labels = dataset.image(image_id), dataset.mask(image_id), dataset.labels(image_id)
        assert image.mode == "RGB"
        assert mask.shape == (image.height, image.width)
        seen = set(np.unique(mask).tolist()) - {0, IGNORE}
        assert {int(c) + 1 for c in labels.nonzero()[0]} == seen
        assert labels.any()


def test_every_class_is_well_covered(dataset):
    counts = sum(dataset.labels(image_id) for image_id in dataset.ids("train"))
    assert counts.min() >= 0.15 * 120


@pytest.mark.slow
def test_scenes_depend_on_seed_and_index_alone(dataset):
    longer = shapes.build(shapes.Config(image_size=64, train_images=125, val_images=10))
    other = shapes.build(shapes.Config(image_size=64, train_images=120, val_images=10, seed=1))
    first = dataset.ids("train")[7]
    np.testing.assert_array_equal(np.asarray(dataset.image(first)), np.asarray(longer.image(first)))
    assert np.any(np.asarray(dataset.image(first)) != np.asarray(other.image(first)))
    assert inspect(dataset) != inspect(longer)


@pytest.mark.slow
def test_another_process_draws_the_same(dataset):
    script = (
        "from aream.datasets import shapes; from aream.data.examination import inspect; "
        "print(inspect(shapes.build(shapes.Config(image_size=64, train_images=120, val_images=10))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == inspect(dataset)


@pytest.mark.slow
def test_companions_stand_beside_their_class_and_are_background():
    """What makes a plain CAM wrong: most discs come with a patch that is no disc in the mask."""
    beside, alone = 0, 0
    painted: list[str] = []

    class Watched(shapes.Scene):
        def _companion(self, texture):
            before = self.ids.copy()
            super()._companion(texture)
            np.testing.assert_array_equal(self.ids, before)
            painted.append(texture)

    for index in range(150):
        painted.clear()
        labels = Watched(SMALL, "train", index).labels()
        if labels[0]:
            beside += "rails" in painted
            alone += "rails" not in painted
    assert beside > 3 * alone


def test_one_part_of_a_body_tells_the_class():
    """What makes a plain CAM too small: the texture is on a part, whose colour is close to that of the body."""
    shares, apart = [], []

    class Watched(shapes.Scene):
        def _object(self, class_index):
            painted.clear()
            super()._object(class_index)
            (body, body_colour, plain), (part, part_colour, texture) = painted
            assert not np.any(part & ~body)
            shares.append(part.sum() / body.sum())
            apart.append(np.abs(part_colour - body_colour).mean())
            assert np.std(plain[body]) < 10 < 30 < np.abs(texture[part]).mean()

        def _paint(self, region, colour, wave):
            painted.append((region.copy(), colour, wave))
            super()._paint(region, colour, wave)

    painted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for index in range(100):
        Watched(SMALL, "train", index)
    assert 0.15 < np.mean(shares) < 0.5
    assert np.median(apart) < 50  # of 255


@pytest.mark.parametrize("change", [{"image_size": 8}, {"train_images": 0}, {"val_images": -1}, {"seed": -1}])
def test_impossible_configurations(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        shapes.Config(**change)
