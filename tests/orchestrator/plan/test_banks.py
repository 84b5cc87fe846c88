"""Which trials of a sweep train in one process."""

from __future__ import annotations

import pytest
from sweep_results import GRID

from aream.errors import ConfigError
from orchestrator.plan.banks import balanced, banks
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec


@pytest.fixture
def trials(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.format(runs=tmp_path / "runs", more=""))

    def trials(*overrides):
        spec = load_spec(path, overrides)
        return Planner(spec, fingerprints(spec)).grid()

    return trials


def test_trainings_of_one_seed_that_differ_in_the_method_are_one_bank(trials):
    planned = trials("axes={method.alpha_low: [0.1, 0.2, 0.3]}", "seeds=[0, 1]")
    found = banks(planned, 4)
    assert [[trial.values["method.alpha_low"] for trial in group] for group in found] == [[0.1, 0.2, 0.3]] * 2
    assert [{trial.seed for trial in group} for group in found] == [{0}, {1}]


@pytest.mark.parametrize(("most", "sizes"), [(2, [2, 2]), (3, [2, 3]), (4, [2, 3]), (5, [5]), (9, [5])])
def test_banks_are_as_even_as_they_can_be(trials, most, sizes):
    planned = trials("axes={method.alpha_low: [0.1, 0.15, 0.2, 0.25, 0.3]}", "seeds=[0]")
    found = banks(planned, most)
    assert sorted(len(group) for group in found) == sizes
    members = [trial.key for group in found for trial in group]
    assert len(set(members)) == len(members)


@pytest.mark.parametrize(
    ("places", "size"),
    [
        (1, 8),  # 9 trainings one after the other, in banks or not
        (2, 2),  # 5 and 4: three of 3 would be 6 and 3
        (3, 8),  # a seed each
        (4, 8),  # one has 3 anyway
        (5, 2),
        (9, 1),
        (99, 1),
    ],
)
def test_auto_makes_no_place_work_longer(trials, places, size):
    planned = trials("axes={method.alpha_low: [0.1, 0.2, 0.3]}", "seeds=[0, 1, 2]")
    assert balanced(planned, 8, places) == size
    assert balanced([], 8, places) == 8


def test_who_shares_nothing_is_in_none(trials):
    assert banks(trials("axes={train.lr: [1e-3, 2e-3]}", "seeds=[0, 1]"), 4) == []
    assert banks([], 4) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("resources={trial: {bank: 0}}", "bank: need auto or a positive number, got 0"),
        ("resources={trial: {bank: auto, processes: 2}}", "got bank auto, 2 processes"),
        ("resources={trial: {bank: all}}", "resources.trial.bank"),
        ("resources={trial: {bank: 2, processes: 2}}", "got bank 2, 2 processes and gpu 0"),
        ("resources={trial: {bank: 2, gpu: auto}}", "got bank 2, 1 processes and gpu auto"),
        ("resources={segmentation: {bank: 2}}", "segmenters share no batches: need bank 1, got 2"),
        ("resources={trial: {bank: 2}};search={trials: 2}", "resources.trial.bank: need 1 with a search"),
        ("resources={trial: {bank: 2}};scheduler={name: asha}", "resources.trial.bank: need 1 with a search"),
    ],
)
def test_what_no_bank_can_train_is_refused(tmp_path, settings, said):
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\naxes: {method.alpha_low: [0.1, 0.2]}\n")
    with pytest.raises(ConfigError) as caught:
        load_spec(path, settings.split(";"))
    assert said in str(caught.value)
