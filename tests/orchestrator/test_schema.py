"""The schema of sweep files takes what the reader takes, says what the classes say, and names what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from aream import backbones, datasets, discover, methods, refiners
from aream.train_config import TrainConfig
from orchestrator import init, schema
from orchestrator.spec.field_docs import field_docs, numeric_range
from orchestrator.spec.schema import sweep_schema
from orchestrator.spec.yaml_source import read_source

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "sweeps").rglob("*.yaml")), *sorted(init.TEMPLATES.iterdir())]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def validator():
    made = json.loads(json.dumps(sweep_schema()))
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_sweep_that_ships_fits(validator, path):
    validator.validate(read_source(path, ()).data)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"nmae": "x"}, []),
        ({"train": {"epochs": -1}}, ["train", "epochs"]),
        ({"train": {"epochs": "ten"}}, ["train", "epochs"]),
        ({"train": {"schedule": "linear"}}, ["train", "schedule"]),
        ({"train": {"epoch": 3}}, ["train"]),
        ({"method": {"name": "aream", "alpha_lo": 0.3}}, ["method"]),
        ({"method": "areem"}, ["method"]),
        ({"method": {"name": "plus", "parts": ["areem"]}}, ["method"]),
        ({"data": {"name": "voc2012"}}, ["data"]),
        ({"axes": {"data": 3}}, ["axes", "data"]),
        ({"axes": {"seeds": [1]}}, ["axes"]),
        ({"axes": {"train.lr": {"uniform": [1]}}}, ["axes", "train.lr"]),
        ({"segmentation": {"select": {"top": 0}}}, ["segmentation"]),
        ({"tracking": "wandb"}, ["tracking"]),
        ({"resources": {"trial": {"gpu": "all"}}}, ["resources", "trial", "gpu"]),
    ],
)
def test_a_mistake_is_marked_where_it_stands(validator, change, where):
    good = {"name": "mine", "method": "aream", "seeds": [0]}
    validator.validate(good)
    errors = list(validator.iter_errors({**good, **change}))
    assert [list(error.absolute_path) for error in errors] == [where]


def test_every_key_has_its_text_and_default(validator):
    train = validator.schema["$defs"]["aream.train_config.TrainConfig"]["properties"]
    assert train.keys() == {field.name for field in dataclasses.fields(TrainConfig)}
    for name, property_ in train.items():
        assert property_["description"] == field_docs(TrainConfig)[name]
        assert "default" in property_
    for registry in (backbones, methods, refiners, datasets):
        for name in discover.names(registry):
            made = validator.schema["$defs"][f"{registry.__name__.removeprefix('aream.')}.{name}"]
            config = discover.load(registry, name).Config
            assert made["properties"].keys() == {"name", *(field.name for field in dataclasses.fields(config))}


def test_ranges_are_those_that_the_classes_keep():
    for cls, field, whole, bounds in (
        (TrainConfig, "epochs", True, {"minimum": 0}),
        (TrainConfig, "batch_size", True, {"minimum": 1}),
        (discover.load(methods, "aream").Config, "affinity_weight", False, {"minimum": 0}),
        (discover.load(methods, "aream").Config, "alpha_low", False, {}),  # goes by alpha_high
    ):
        assert numeric_range(cls, field, whole=whole) == bounds, field


def test_the_command_and_the_line_that_init_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init.main(["mine"]) == 0
    text = (tmp_path / "mine/sweep.yaml").read_text()
    (line,) = [line for line in text.splitlines() if "$schema=" in line]
    assert line == "# yaml-language-server: $schema=sweep.schema.json"
    (told,) = [line.partition(": aream ")[2] for line in text.splitlines() if "aream schema" in line]
    program, *arguments = told.split()
    assert program == "schema"
    assert schema.main(arguments) == 0
    assert json.loads((tmp_path / "mine/sweep.schema.json").read_text())["title"] == "A sweep"
    capsys.readouterr()
    assert schema.main([]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]
