from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError

SMALL = """
name: small
data: {name: shapes, image_size: 32, train_images: 4, val_images: 2}
backbone: {vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}
train: {epochs: 4, warmup_epochs: 2, lr_warmup_epochs: 0, image_size: 32}
"""
METHODS = """axes:
  method: {grid: [{name: aream}, {name: mctformer}]}
  method.alpha_low: {grid: [0.25, 0.35], when: "method.name == 'aream'"}
"""
NAMED = """axes:
  method.alpha_low: {grid: [0.25, 0.35], when: "method.name == 'aream'"}
  method.name: {grid: [aream, mctformer]}
"""
OPTIONS = {
    "train.epochs": [20, 30],
    "train.warmup_epochs": [1, 2],
    "train.batch_size": [4, 8],
    "method.weights": ["uniform", "entropy_offline"],
    "inference.layers": ["all", "none"],
    "inference.flip": [True, False],
}
VARIANT = "inference."


@pytest.fixture
def write(tmp_path):
    def write(text: str, head: str = SMALL) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(head + text)
        return path

    return write


@st.composite
def conditioned_axes(draw):
    """Axes in any order, some with a condition on keys that come before them in another one."""
    keys = draw(st.permutations(list(OPTIONS)))
    keys = [key for key in keys if not key.startswith(VARIANT)] + [key for key in keys if key.startswith(VARIANT)]
    axes = {}
    for index, key in enumerate(keys):
        terms = []
        if index and draw(st.booleans()):
            for other in draw(st.lists(st.sampled_from(keys[:index]), min_size=1, max_size=2)):
                terms.append((other, draw(st.sampled_from(["==", "!="])), draw(st.sampled_from(OPTIONS[other]))))
        axes[key] = (terms, draw(st.sampled_from(["and", "or"])))
    order = draw(st.permutations(draw(st.lists(st.sampled_from(keys), min_size=1, unique=True))))
    return {key: axes[key] for key in order}


def met(terms, joint, values) -> bool:
    results = [(values[key] == value) is (op == "==") for key, op, value in terms]
    return all(results) if joint == "and" else any(results)


@pytest.mark.slow
@settings(max_examples=40)
@given(conditioned_axes())
def test_a_grid_with_conditions_is_what_trying_everything_gives(tmp_path_factory, axes):
    path = tmp_path_factory.mktemp("grid") / "sweep.yaml"
    section = {}
    for key, (terms, joint) in axes.items():
        when = f" {joint} ".join(f"{other} {op} {value!r}" for other, op, value in terms)
        when = when.replace("True", "1").replace("False", "0")
        section[key] = {"grid": OPTIONS[key]} | ({"when": when} if terms else {})
    path.write_text(f"name: x\naxes: {json.dumps(section)}\n")
    spec = load_spec(path)
    own = {key: spec.read(key, {}) for key in OPTIONS}

    absent = object()
    expected = []
    for combination in itertools.product(*([absent, *OPTIONS[key]] for key in axes)):
        point = {key: value for key, value in zip(axes, combination, strict=True) if value is not absent}
        if all((key in point) is (not terms or met(terms, joint, own | point)) for key, (terms, joint) in axes.items()):
            expected.append(point)
    given_points = [point for values in spec.training_points() for point in spec.variant_points(values)]
    canonical = [json.dumps(point, sort_keys=True) for point in given_points]
    assert len(set(canonical)) == len(canonical)
    assert sorted(canonical) == sorted(json.dumps(point, sort_keys=True) for point in expected)


@pytest.mark.parametrize("axes", [METHODS, NAMED], ids=["section", "dotted"])
def test_a_setting_of_one_method_does_not_exist_at_the_other(write, axes):
    spec = load_spec(write(axes))
    points = spec.training_points()
    assert len(points) == 3
    methods = [spec.trial(point, 0).method for point in points]
    assert sorted(method.name for method in methods) == ["aream", "aream", "mctformer"]
    assert ["method.alpha_low" in point for point in points] == [method.name == "aream" for method in methods]
    planner = Planner(spec, fingerprints(spec))
    assert len({trial.key for trial in planner.grid()}) == 3
    assert pickle.loads(pickle.dumps(spec)).training_points() == points


def test_naming_another_component_drops_the_settings_of_the_first(write):
    spec = load_spec(write("method: {name: aream, alpha_high: 0.6}\n" + NAMED))
    kept, dropped = (spec.trial({"method.name": name}, 0).method.config for name in ("aream", "mctformer"))
    assert kept.alpha_high == 0.6
    assert not hasattr(dropped, "alpha_high")


def test_a_component_without_a_name_in_the_file_keeps_its_settings(write):
    spec = load_spec(write("method: {alpha_high: 0.6}\n" + NAMED))
    assert spec.trial({"method.name": "aream"}, 0).method.config.alpha_high == 0.6
    assert spec.trial({"method.name": "mctformer"}, 0).method.name == "mctformer"


def test_a_constraint_on_a_key_that_is_not_there_asks_nothing(write):
    spec = load_spec(write(METHODS + "where: ['method.alpha_low < 0.3']\n"))
    assert [point.get("method.alpha_low") for point in spec.training_points()] == [0.25, None]


def test_variant_axes_may_depend_on_training_axes_and_fixed_keys(write):
    spec = load_spec(
        write(
            METHODS + "  inference.layers: {grid: [all, shallow], when: \"method.name == 'aream'\"}\n"
            '  inference.flip: {grid: [true, false], when: "train.epochs > 100"}\n'
        )
    )
    assert [len(spec.variant_points(point)) for point in spec.training_points()] == [2, 2, 1]


@pytest.mark.parametrize(
    ("axes", "line", "message"),
    [
        ('  train.lr: {grid: [1.0e-3], when: "method.nme == 1"}', 7, "method.nme: no such key"),
        ('  train.lr: {grid: [1.0e-3], when: "train.lr > 0"}', 7, "wait for each other"),
        (
            '  train.lr: {grid: [1.0e-3], when: "train.batch_size > 0"}\n'
            '  train.batch_size: {grid: [4], when: "train.lr > 0"}',
            7,
            "train.lr, train.batch_size wait for each other",
        ),
        ('  train.lr: {grid: [1.0e-3], when: "import os"}', 7, "is not an expression"),
        ("  train.lr: {grid: [1.0e-3], when: 3}", 7, "need a condition"),
        ('  train.lr:\n    grid: [1.0e-3]\n    when: "method.weights < 1"', 9, "cannot be decided"),
        (
            '  train.lr: {grid: [1.0e-3], when: "inference.flip == 1"}\n  inference.flip: [true, false]',
            7,
            "a training axis cannot depend on inference.flip",
        ),
    ],
)
def test_a_condition_that_cannot_be_used_is_named_with_its_line(write, axes, line, message):
    path = write(f"axes:\n{axes}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert any(
        re.match(rf"{re.escape(str(path))}:{line}: axes\..*{message}", text) for text in str(caught.value).split("\n")
    ), str(caught.value)


def test_corners_of_a_search_are_possible_trials(write):
    spec = load_spec(
        write(
            METHODS + "  train.lr: {loguniform: [1.0e-4, 1.0e-2]}\n  method.alpha_high: "
            "{uniform: [0.3, 0.6], when: \"method.name == 'aream'\"}\n"
            "where: ['method.alpha_low < method.alpha_high', 'train.lr < 1.0e-3']\nsearch: {trials: 4}\n"
        )
    )
    corners = Planner(spec, fingerprints(spec)).corners()
    assert [trial.values.get("method.alpha_low") for trial in corners] == [0.25, None]
    assert all(trial.variants and trial.values["train.lr"] == 1e-4 for trial in corners)


def test_a_search_whose_ends_are_all_refused_has_no_corners(write):
    spec = load_spec(
        write(
            "axes: {train.lr: {uniform: [0.1, 0.9]}}\nwhere: ['train.lr > 0.4', 'train.lr < 0.5']\n"
            "search: {trials: 4}\n"
        )
    )
    assert Planner(spec, fingerprints(spec)).corners() == []


def test_every_dataset_a_search_may_propose_is_read_before(write):
    spec = load_spec(
        write("axes: {data.train_images: {choice: [4, 5, 6]}, train.lr: [0.1, 0.2]}\nsearch: {trials: 4}\n")
    )
    planner = Planner(spec, fingerprints(spec))
    for count in (4, 5, 6):
        assert planner.trial({"data.train_images": count, "train.lr": 0.1}, 0).key


def test_a_range_of_datasets_is_refused(write):
    with pytest.raises(SpecError, match="every dataset is read before"):
        load_spec(write("axes: {data.train_images: {int: [4, 60]}}\nsearch: {trials: 4}\n"))
