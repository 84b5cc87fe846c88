"""The walk through CONTRIBUTING.md, done as written: its files, found by their names, checked, planned and trained."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from backbone_contract import check_backbone
from method_contract import check_method

from aream import backbones, discover, methods
from aream.augmentations import deit
from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import Batch
from aream.infer import CamInference, infer_cams
from aream.methods.protocol import HostShape
from aream.train import Training
from aream.train_config import TrainConfig
from orchestrator import sweep

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""Path to text of every file that the page shows."""
COMMANDS = [shlex.split(line) for line in re.findall(r"^python -m .*$", PAGE, re.MULTILINE)]
ADDED = {backbones: "cam_vit", methods: "patch_classes"}


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """A folder with the page's files, where the registries look for more."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for package in ADDED:
        folder = tmp_path / package.__name__.replace(".", "/")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for package, name in ADDED.items():
        if sys.modules.pop(f"{package.__name__}.{name}", None) is not None:
            delattr(package, name)


@pytest.fixture
def added(walk):
    """The new backbone and method, by name."""
    return [discover.load(package, name) for package, name in ADDED.items()]


def small(backbone):
    return backbone.Config(depth=2)


def test_the_page_shows_what_the_walk_needs():
    assert set(FILES) == {"aream/backbones/cam_vit.py", "aream/methods/patch_classes.py", "sweeps/patches.yaml"}
    checked = {command[-1]: command[3] for command in COMMANDS if command[2] == "pytest"}
    assert set(checked) == set(ADDED.values())
    assert all((ROOT / test_file).is_file() for test_file in checked.values())


def test_the_new_files_are_found_and_keep_the_contracts(added):
    backbone, method = added
    check_backbone(backbone, small(backbone))
    torch.manual_seed(0)
    host = backbone.build(small(backbone), 4, 32)
    batch = Batch(torch.randn(2, 3, 32, 32), torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]]), ("a", "b"))
    check_method(method, method.Config(), host, batch)


@pytest.mark.slow
def test_the_sweep_of_both_is_planned(walk, capsys):
    (arguments,) = [command[3:] for command in COMMANDS if command[-1] == "--plan"]
    assert sweep.main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["trainings"] == 4
    assert [row["shared_by"] for row in plan["stages"] if row["stage"] == "warmup"] == [2, 2]
    named = {(trial["values"]["backbone"]["name"], trial["values"]["method"]["name"]) for trial in plan["trials"]}
    assert named == {(b, m) for b in ("cam_vit", "mctformer_v2") for m in ("mean_affinity", "patch_classes")}


def test_a_key_that_the_new_file_does_not_have_is_named(walk, capsys):
    arguments = ["sweeps/patches.yaml", "--plan", "--set", "axes={method: [{name: patch_classes, miror_weight: 1}]}"]
    assert sweep.main(arguments) == 2
    assert "did you mean mirror_weight" in capsys.readouterr().err


def test_both_train(added):
    backbone, method = added
    dataset = shapes.build(shapes.Config(image_size=32, train_images=4, val_images=2))
    config = TrainConfig(
        epochs=2, warmup_epochs=1, batch_size=4, lr=1e-3, lr_warmup_epochs=0, image_size=32,
        augmentation=Component(name="deit", config=deit.Config(rand_augment=None)),
    )  # fmt: skip
    torch.manual_seed(0)
    host = backbone.build(small(backbone), len(dataset.class_names), 32)
    made = method.build(method.Config(), host=HostShape.of(host, len(dataset.class_names), 32))
    before = [parameter.detach().clone() for network in (host.head, made.network) for parameter in network.parameters()]
    rows = []
    training = Training(host, made, dataset, config, 0, device=torch.device("cpu"))
    training.run(2, report=rows.append)
    assert ["train/mirror_loss" in row for row in rows] == [False, True]
    after = [parameter for network in (host.head, made.network) for parameter in network.parameters()]
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    cams = infer_cams(host, dataset, "train", CamInference(), device=torch.device("cpu"), localise=made.localise)
    assert len(list(cams)) == 4
