"""Why a stage has to run."""

from __future__ import annotations

import dataclasses

import pytest
from small_trials import TRIAL, fingerprint

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
