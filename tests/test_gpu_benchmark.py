"""The command that measures a GPU, on a CPU at a toy's size: every part runs, and what it says is kept."""

from __future__ import annotations

import argparse
import json
import math
import time

import pytest
import torch

from aream.data.examination import inspect
from aream.datasets import voc2012
from benchmarks import gpu
from benchmarks.gpu_parts import parts
from benchmarks.gpu_workload import (
    FULL,
    LISTS,
    PLAIN,
    TOY,
    Place,
    made_training,
    one_batch,
    operations_an_image,
    write_images,
)

CPU = torch.device("cpu")
TOYS = ("--device", "cpu", "--size", "toy", "--name", "toy")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("images") / "voc"
    write_images(root, TOY)
    return Place(TOY, CPU, root, cores=2)


def test_images_are_a_dataset_without_a_fault(place):
    for name in ("train", *LISTS):
        dataset = voc2012.build(voc2012.Config(root=str(place.root), train_list=f"{name}.txt"))
        assert len(dataset.ids("train")) == getattr(TOY, name)
    inspect(dataset)
    image_id = dataset.ids("train")[-1]
    assert dataset.image(image_id).size == TOY.picture
    present = {mask_id - 1 for mask_id in set(dataset.mask(image_id).flatten().tolist()) - {0}}
    assert present <= {index for index, label in enumerate(dataset.labels(image_id)) if label}
    assert present


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["eager_4", "cams", "labels", "bank"]
)  # compiled ones: type checks would be compiled too
def test_a_part_yields_figures(place, name):
    rows = list(parts(TOY)[name][0](place))
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows)
    assert len({row.what for row in rows}) == len(rows)
    assert all((row.goal == "") == (row.met is None) for row in rows)
    found = {row.what: row for row in rows}
    if name == "eager_4":
        cost = found["AReAM online step against plain"]
        expected = found["plain step"].value / found["AReAM online step"].value
        assert cost.value == pytest.approx(expected)
        assert cost.met == (expected <= 1.25)


@pytest.mark.slow
def test_operations_of_a_step_are_those_of_its_matrices(place):
    training = made_training(place, 4, PLAIN)
    found = operations_an_image(training, one_batch(training, 4, CPU))
    patches = (TOY.side // TOY.host["patch_size"]) ** 2
    dim, depth = TOY.host["dim"], TOY.host["depth"]
    tokens = patches + 20
    linear = 2 * tokens * dim * dim * (3 + 1 + 4 + 4)
    attention = 2 * 2 * tokens**2 * dim
    head = 2 * patches * dim * 20 * 9
    stem = 2 * patches * dim * 3 * TOY.host["patch_size"] ** 2  # without a gradient of the images
    least = 3 * (depth * linear + head) + 2 * stem
    # A CPU's attention is not counted, a GPU's is: backward in 2.5 times its forward.
    assert least <= found <= least + 3.5 * depth * attention


@pytest.mark.slow
def test_the_command_keeps_what_its_parts_say(tmp_path, capsys):
    assert gpu.main([*TOYS, "--only", "compiled_2", "loader"], tmp_path) == 0
    kept = json.loads((tmp_path / "gpu_toy.json").read_text())
    assert kept["broken"] == {}
    assert kept["left_out"] == []
    assert kept["device"] == "CPU"
    assert {row["part"] for row in kept["rows"]} == {"compiled, batch 2", "loader, batch 4"}
    rates = {row["what"]: row["value"] for row in kept["rows"] if row["unit"] == "images/s"}
    assert {
        "plain step",
        "AReAM online step",
        "AReAM extra forward step",
        "compiled step with the loader",
        "compiled step with the loader, changed on the device",
    } <= rates.keys()
    assert min(rates.values()) > 0
    printed = capsys.readouterr().out
    assert ">= 0.95" in printed


def _measured(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(gpu, "LEAST_S", 0.0)
    run = gpu.Run(tmp_path / "gpu.json", {"device": "CPU", "cores": 2})
    options = argparse.Namespace(device="cpu", size="toy")
    gpu._measure("labels", 240.0, time.monotonic() + seconds, tmp_path / "nowhere", options, run)
    return json.loads((tmp_path / "gpu.json").read_text())


@pytest.mark.slow
def test_a_part_that_fails_is_told(tmp_path, monkeypatch):
    kept = _measured(tmp_path, monkeypatch, 300.0)
    assert "nowhere" in kept["broken"]["labels"]
    assert kept["rows"] == kept["left_out"] == []


def test_a_part_whose_time_is_up_is_left_out(tmp_path, monkeypatch):
    kept = _measured(tmp_path, monkeypatch, 0.2)
    assert kept["left_out"] == ["labels"]
    assert kept["broken"] == {}


def test_the_parts_of_a_gpu_fit_their_time():
    limits = [most for _, most in parts(FULL).values()]
    assert sum(limits[:-1]) <= 8 * 60  # the last has what the others leave


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            (), "no CUDA device", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
        ),
        ((*TOYS, "--only", "speed"), "no part 'speed'; there are eager_4, compiled_4, loader"),
    ],
)
def test_what_it_cannot_measure_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert said in capsys.readouterr().err
