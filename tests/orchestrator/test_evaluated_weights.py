"""Weights that are there already go through CAMs, labels and analyses without an epoch of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_sweep import SECTIONS, write_sweep

from aream.errors import AreamError
from orchestrator import api
from workers.components import WEIGHTS_FILE

pytestmark = pytest.mark.slow
ANALYSES = ["layer_gain"]
FIGURES = ["val/map", "cam/miou", "pseudo/miou", "pseudo/threshold", "layer/00/miou", "layer/02/miou"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of an epoch: its rows, and its weights."""
    spec = api.load(write_sweep(tmp_path_factory.mktemp("trained"), analyses=ANALYSES))
    rows, made = api.run_trial(spec, {}), api.plan(spec)
    (trial,) = made.trials
    return rows, made.prepared.workspace.store().get(trial.key) / WEIGHTS_FILE


def evaluated(folder, weights, **changes):
    sections = {"train": {"epochs": 0}, "backbone": {"weights": weights and str(weights)}, "analyses": ANALYSES}
    return api.load(write_sweep(folder, **{**sections, **changes}))


def test_figures_are_those_of_the_training_to_the_digit(trained, tmp_path):
    rows, weights = trained
    axes = {"method.name": ["mean_affinity", "aream"], **SECTIONS["axes"]}
    spec = evaluated(tmp_path, weights, method={"name": "aream"}, axes=axes)
    table = api.plan(spec).table()
    assert sorted(table["stage"]) == ["infer_cam", "layer_gain", "pseudo_label", "pseudo_label", "train_cam"]
    found = api.run_trial(spec, {"method.name": "aream"})
    assert found[FIGURES].equals(rows[FIGURES])
    assert set(found["val/kept_epoch"]) == {0.0}
    results = api.run(spec)  # of stored trials
    ((epoch, row),) = results.history().iterrows()
    assert (epoch, row["val/map"]) == (0, rows["val/map"][0])
    assert np.isfinite([row["val/map_all"], row["val/map_image"]]).all()
    text = (results.workspace.folder / "report.html").read_text()
    assert "the epoch kept is" not in text


def test_the_host_is_stored_as_it_came(trained, tmp_path):
    spec = evaluated(tmp_path, trained[1])
    api.run_trial(spec, {})
    made = api.plan(spec)
    kept = load_file(made.prepared.workspace.store().get(made.trials[0].key) / WEIGHTS_FILE)
    given = load_file(trained[1])
    assert kept.keys() == given.keys()
    assert all(torch.equal(kept[name], given[name]) for name in kept)


def test_what_no_training_reads_is_no_part_of_the_key(trained, tmp_path):
    keys = set()
    for number, train in enumerate(({}, {"lr": 1e-3}, {"augmentation": {"erasing": 0.5}}, {"select": "last"})):
        folder = tmp_path / str(number)
        folder.mkdir()
        (trial,) = api.plan(evaluated(folder, trained[1], train={"epochs": 0, **train})).trials
        keys.add(trial.key)
    assert len(keys) == 1


def write(state, path):
    torch.save(state, path)
    return path


def test_a_head_that_nobody_trained_is_refused_before_anything_runs(trained, tmp_path):
    state = load_file(trained[1])
    vit = {name: value for name, value in state.items() if not name.startswith(("head.", "_extra"))}
    vit |= {"cls_token": vit["cls_token"][:, :1], "pos_embed": vit["pos_embed"][:, 5:]}
    for weights, words in (
        (None, "backbone.weights: null holds no trained head"),
        (write(vit, tmp_path / "vit.pth"), r"vit\.pth holds no trained head"),
        (write({**state, "head.weight": state["head.weight"][:3]}, tmp_path / "other.pth"), "does not fit"),
    ):
        spec = evaluated(tmp_path, weights)
        with pytest.raises(AreamError, match=words):
            api.plan(spec)
        assert not (tmp_path / "runs" / "artifacts").exists() or not list((tmp_path / "runs").rglob("model.*"))


def test_a_method_with_a_network_of_its_own_is_refused(trained, tmp_path):
    spec = evaluated(tmp_path, trained[1], method={"name": "more", "uncertain_weight": 0}, axes={})
    with pytest.raises(AreamError, match=r"train\.epochs: 0 trains nothing, and the method more has a network"):
        api.plan(spec)


def test_methods_of_one_name_are_looked_at_each(trained, tmp_path):
    """Whichever of them comes first."""
    acr = {"name": "plus", "parts": ["acr"]}
    more = {"name": "plus", "parts": ["acr", {"name": "more", "uncertain_weight": 0}]}
    for grid in ([acr, more], [more, acr]):
        spec = evaluated(tmp_path, trained[1], axes={"method": {"grid": grid}})
        with pytest.raises(AreamError, match="the method plus has a network"):
            api.plan(spec)
    (trial,) = api.plan(evaluated(tmp_path, trained[1], axes={"method": {"grid": [acr]}})).trials
    assert trial.train.config.method.name == "mean_affinity"


def test_an_axis_of_epochs_may_begin_at_none(trained, tmp_path):
    """The weights of a ViT alone do for the trainings of an axis, not for its point without one."""
    state = load_file(trained[1])
    vit = {name: value for name, value in state.items() if not name.startswith(("head.", "_extra"))}
    vit |= {"cls_token": vit["cls_token"][:, :1], "pos_embed": vit["pos_embed"][:, 5:]}
    weights = write(vit, tmp_path / "vit.pth")
    for epochs, good in (([2, 1], True), ([2, 1, 0], False)):
        spec = evaluated(tmp_path, weights, train={}, axes={"train.epochs": epochs})
        if good:
            assert len(api.plan(spec).trials) == 2
        else:
            with pytest.raises(AreamError, match="holds no trained head"):
                api.plan(spec)


def test_there_is_nothing_to_stop_early_or_to_warm_up(trained, tmp_path):
    for changes, words in (
        ({"scheduler": {"name": "asha", "metric": "val/map"}}, "need fewer than the 0 epochs"),
        ({"train": {"epochs": 0, "warmup_epochs": 2}}, "warmup_epochs: need 0 or null where epochs is 0, got 2"),
        ({"train": {"epochs": -1}}, r"epochs: need a number in 0\.\.1000000, got -1"),
    ):
        with pytest.raises(AreamError, match=words):
            evaluated(tmp_path, trained[1], **changes)
