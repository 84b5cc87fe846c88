"""Label variants of a trial in one pass: the bytes of each alone, what they share made once, failures apart."""

from __future__ import annotations

import dataclasses

import pytest
from small_trials import TRIAL, Work, fingerprint

from aream.config import Component
from aream.datasets.shapes import Shapes
from aream.errors import DataError, Interrupted, StageFailed, StageHeld
from aream.labels.pseudo_labels import LabelsConfig
from aream.refiners import crf, par
from workers.artifacts.leases import Leases
from workers.pipelines import variant_stages
from workers.processes.runtime import Runtime
from workers.stages import pseudo_label
from workers.stages.pseudo_label import OVERLAYS

pytestmark = pytest.mark.slow
PAR = Component(name="par", config=par.Config(dilations=(1, 2), iterations=2))
CRF = Component(name="crf", config=crf.Config(iterations=2))
TOO_FINE = Component(name="crf", config=crf.Config(iterations=2, bilateral_sxy=1e-9, gaussian_sxy=1e-9))
"""Its lattice has more corners than can be numbered, which shows when it sees an image."""
IMAGES = 10


def variants(*chosen):
    stages = []
    for layers, refiner, rule in chosen:
        labels = LabelsConfig(background_threshold=rule, **({} if refiner is None else {"refiner": refiner}))
        inference = dataclasses.replace(TRIAL.inference, layers=layers)
        trial = dataclasses.replace(TRIAL, labels=labels, inference=inference)
        stages.append(variant_stages(trial, fingerprint).labels)
    return stages


SIX = (
    ("all", PAR, "auto"), ("all", PAR, "edges"), ("deep", PAR, 0.3), ("none", None, "held_out"), ("all", CRF, "otsu"),
    ("all", None, "auto"),
)  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    work = Work(tmp_path_factory.mktemp("alone"))
    return [work.digests(stage) for stage in variants(*SIX)]


@pytest.fixture
def work(tmp_path):
    """A store that has the CAMs."""
    made = Work(tmp_path)
    made.runner.run(variants(SIX[0])[0].inputs["cams"])
    return made


@pytest.fixture
def calls(monkeypatch):
    """How often images are decoded and PAR's kernels computed."""
    counted = dict.fromkeys(("image", "kernel"), 0)

    def watch(owner, name):
        original = getattr(owner, name)

        def counting(*arguments):
            counted[name] += 1
            return original(*arguments)

        monkeypatch.setattr(owner, name, counting)

    watch(Shapes, "image")
    watch(par.PAR, "kernel")
    return counted


def test_together_each_has_the_bytes_that_it_has_alone(work, alone):
    stages = variants(*SIX)
    records = list(work.runner.run_all(stages))
    assert [record.key for record in records] == [stage.key for stage in stages]
    assert [work.digests(stage) for stage in stages] == alone
    assert len({record.seconds for record in records}) > 1 or records[0].seconds > 0


def test_an_image_is_decoded_once_and_its_kernels_are_computed_once(work, calls):
    stages = variants(*SIX)
    calls.update(image=0, kernel=0)
    list(work.runner.run_all(stages))
    assert calls["image"] <= IMAGES + len(stages) * OVERLAYS
    assert calls["kernel"] == 1  # they are small enough for one batch


def test_a_rehearsal_refines_images(calls):
    pseudo_label.rehearse(variants(SIX[0])[0].config, Runtime(), 2)
    assert calls["kernel"] == 2


def test_one_that_fails_loses_no_other(work, alone):
    stages = variants(SIX[0], ("all", TOO_FINE, "auto"), *SIX[1:])
    failing = stages.pop(1)
    with pytest.raises(StageFailed, match=rf"{failing.key}: .*standard deviations"):
        list(work.runner.run_all([stages[0], failing, *stages[1:]]))
    assert not work.store.has(failing.key)
    assert all(work.store.has(stage.key) for stage in stages)
    assert [work.digests(stage) for stage in stages] == alone


def test_one_that_another_process_computes_is_told_after_the_others(work):
    stages = variants(*SIX[:3])
    with Leases(work.store.storage).take(stages[0].key), pytest.raises(StageHeld, match="being computed by") as held:
        list(work.runner.run_all(stages))
    assert held.value.key == stages[0].key
    assert [work.store.has(stage.key) for stage in stages] == [False, True, True]


def test_what_is_stored_is_not_made_again(work, alone, calls):
    stages = variants(*SIX)
    list(work.runner.run_all(stages[:3]))
    before, first = dict(calls), work.store.record(stages[0].key)
    list(work.runner.run_all(stages))
    assert work.store.record(stages[0].key) == first
    assert calls["kernel"] == before["kernel"]  # PAR's variants were there
    assert [work.digests(stage) for stage in stages] == alone


@pytest.mark.parametrize("after", [2, 3, 4, 20])
def test_a_pass_that_is_stopped_is_made_later(work, alone, after):
    stages, asked = variants(*SIX), iter([False] * after)
    work.runner.stop = lambda: next(asked, True)
    with pytest.raises(Interrupted):
        list(work.runner.run_all(stages))
    assert not list(work.store.storage.list("leases/"))
    assert not list((work.store.scratch / "staging").iterdir())
    work.runner.stop = lambda: False
    list(work.runner.run_all(stages))
    assert [work.digests(stage) for stage in stages] == alone


def test_an_image_that_is_gone_fails_all(work, monkeypatch):
    def gone(self, image_id):
        raise DataError(f"{image_id}.png: no such file")

    stages = variants(*SIX[:2])
    monkeypatch.setattr(Shapes, "image", gone)
    with pytest.raises(StageFailed, match="no such file"):
        list(work.runner.run_all(stages))
    assert not any(work.store.has(stage.key) for stage in stages)
