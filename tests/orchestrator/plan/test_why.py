"""Why a stage has to run."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from small_trials import TRIAL, fingerprint

from orchestrator.plan import why
from orchestrator.plan.why import Difference, reasons
from workers.pipelines import training_stage, variant_stages
from workers.processes.hardware import Hardware
from workers.record_of import record_of


def record(stage, created="2026-01-01T00:00:00+00:00"):
    return dataclasses.replace(record_of(stage, {}, [], 1.0), created=created)


def trained(**changes):
    return training_stage(dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, **changes)), fingerprint)


def test_nothing_of_its_kind_is_stored():
    stage = trained()
    (reason,) = reasons([stage], [record(variant_stages(TRIAL, fingerprint).cams)])
    assert (reason.key, reason.nearest) == (stage.key, None)
    assert reason.words == "no result of its kind is stored"


def test_the_nearest_record_is_the_one_with_fewest_differences():
    one, two = trained(lr=0.5), trained(lr=0.5, batch_size=3)
    (reason,) = reasons([trained()], [record(two), record(one)])
    assert reason.nearest == one.key
    assert [one.field for one in reason.differences] == ["input warmup", "train.lr"]  # the warm-up has the rate too
    assert reason.differences[1] == Difference("train.lr", "0.5", str(TRIAL.train.lr))
    assert reason.words.endswith(f"; train.lr: {TRIAL.train.lr} (stored: 0.5)")


def test_of_equally_near_ones_the_last_is_meant():
    early, late = trained(lr=0.5), trained(lr=0.25)
    stored = [record(late, "2026-01-02T00:00:00+00:00"), record(early)]
    assert reasons([trained()], stored)[0].nearest == late.key
    assert reasons([trained()], stored[::-1])[0].nearest == late.key


def test_a_component_s_settings_are_named_as_in_the_file():
    method = dataclasses.replace(TRIAL.method, config=dataclasses.replace(TRIAL.method.config, alpha_low=0.1))
    other = training_stage(dataclasses.replace(TRIAL, method=method), fingerprint)
    (reason,) = reasons([other], [record(trained())])
    assert [one.field for one in reason.differences] == ["method.alpha_low"]


def test_what_follows_from_another_input_says_which():
    changed = dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, lr=0.5))
    before, after = (variant_stages(trial, fingerprint).cams for trial in (TRIAL, changed))
    (reason,) = reasons([after], [record(before)])
    assert [one.field for one in reason.differences] == ["input host"]
    assert reason.differences[0].asked == after.inputs["host"].key


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": -1}, "version of the stage"),
        ({"fingerprints": {"data": "another"}}, "fingerprint data"),
        ({"device": "cpu, 9 threads: some model"}, "computed on"),
    ],
)
def test_version_data_and_hardware_are_reasons(change, field):
    stage = trained()
    fingerprints = {**stage.fingerprints, **change.pop("fingerprints", {})}
    stored = dataclasses.replace(record(stage), fingerprints=fingerprints, **change)
    (reason,) = reasons([stage], [stored])
    assert [one.field for one in reason.differences] == [field]


def test_a_record_differs_in_nothing_from_its_own_stage():
    for stage in variant_stages(TRIAL, fingerprint).all():
        on = dataclasses.replace(stage, hardware=Hardware("cpu", 2))
        assert reasons([on], [record(on)])[0].differences == ()


def test_each_stage_is_compared_with_few_of_many_that_are_stored(monkeypatch):
    """Compared in pairs, a sweep of thousands beside a store of thousands would take minutes to plan."""
    stored = [
        dataclasses.replace(
            record(trained(lr=lr, lr_floor=0.0, weight_decay=decay, batch_size=size)), key=f"{number:05d}"
        )
        for number, (lr, decay, size) in enumerate(itertools.product((0.1, 0.2, 0.3), (0.0, 0.1, 0.2), range(1, 5)))
    ]
    asked = [trained(lr=0.1, lr_floor=0.0, weight_decay=decay, batch_size=3) for decay in (0.5, 0.6, 0.7)]
    compared = []
    for name in ("_apart", "_differences"):
        real = getattr(why, name)
        monkeypatch.setattr(why, name, lambda *both, real=real: compared.append(both) or real(*both))
    found = why.reasons(asked, stored)
    assert [len(one.differences) for one in found] == [2] * 3  # the warm-up's too
    assert len(compared) == len(asked)


def test_the_table_finds_what_comparing_all_does():
    draw, columns = random.Random(0), [f"c{number}" for number in range(5)]

    def drawn(values):
        return {name: str(draw.randrange(values)) for name in columns if draw.random() < 0.9}

    template = record(trained())
    for values, count in ((2, 3), (3, 40), (6, 200)):
        stored = [
            dataclasses.replace(template, config=drawn(values), key=f"{n:03d}", created=str(draw.randrange(3)))
            for n in range(count)
        ]
        kin = why._Kin(stored)
        for _ in range(50):
            asked = why._of_record(dataclasses.replace(template, config=drawn(values + 1)))

            def apart(one, asked=asked):
                return len(list(why._differences(why._of_record(one), asked)))

            fewest = min(map(apart, stored))
            expected = max((one for one in stored if apart(one) == fewest), key=lambda one: (one.created, one.key))
            assert kin.nearest(asked) == expected
