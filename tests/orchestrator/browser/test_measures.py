"""What cannot be measured ends its own list, and no other."""

from __future__ import annotations

import time

import numpy as np
import pytest

from aream.errors import DataError, StoreUnavailable
from aream.metrics import confusion_matrix
from orchestrator.browser.measures import Measurer, Measures

IDS = [f"image_{number}" for number in range(40)]
BROKEN = 20


def other_shape():
    return confusion_matrix(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), 2)


def no_cams():
    return {}[IDS[BROKEN]]


def unreadable():
    raise DataError(f"{IDS[BROKEN]}: no image")


@pytest.mark.parametrize("broken", [other_shape, no_cams, unreadable])
def test_a_broken_image_is_told_and_other_lists_are_measured(tmp_path, broken):
    def measure(image_id):
        return [broken() if image_id == IDS[BROKEN] else 0.5]

    measurer = Measurer()
    damaged = Measures(IDS, measure, tmp_path / "damaged.json")
    whole = Measures(IDS, lambda image_id: [0.5], tmp_path / "whole.json")
    for measures in (damaged, whole):
        measurer.want(measures)
        until(lambda measures=measures: measures.done)
    assert IDS[BROKEN] in damaged.failure
    assert damaged.rows == [[0.5]] * BROKEN
    assert whole.failure is None
    assert whole.rows == [[0.5]] * len(IDS)
    assert not (tmp_path / "damaged.json").exists()


def test_what_could_not_be_measured_is_tried_again_when_somebody_asks_again(tmp_path):
    away = {IDS[BROKEN]}

    def measure(image_id):
        if image_id in away:
            raise StoreUnavailable("the store is away")
        return [0.5]

    measurer, measures = Measurer(), Measures(IDS, measure, tmp_path / "rows.json")
    for _ in range(2):
        measurer.want(measures)
        until(lambda: measures.done)
        assert measures.take_failure() == "the store is away"
        assert measures.take_failure() is None
    away.clear()
    measurer.want(measures)
    until(lambda: measures.done)
    assert measures.rows == [[0.5]] * len(IDS)
    assert (tmp_path / "rows.json").exists()


def until(done):
    end = time.monotonic() + 240
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)
