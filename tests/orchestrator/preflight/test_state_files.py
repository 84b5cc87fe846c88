"""A plan refuses every file of earlier runs that the run itself would refuse, in the same words, and changes none."""

from __future__ import annotations

import json

import pytest

from orchestrator import sweep
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.workspace import Workspace
from workers.artifacts.holds import Hold

SWEEP = """
name: s
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 2, warmup_epochs: 1, lr_warmup_epochs: 0, image_size: 32}}
resources: {{trial: {{gpu: auto}}}}
"""


@pytest.fixture
def place(tmp_path):
    """A sweep that ran before, as far as its files tell."""
    place = Workspace(None, tmp_path / "runs", "s")
    with Hold(place.store().storage, sweep_id(place), "s") as hold:
        hold.add(["train_cam-0123456789abcdef"])
    (tmp_path / "s.yaml").write_text(SWEEP.format(runs=place.runs))
    return place


@pytest.mark.parametrize("flags", [["--plan"], []], ids=["plan", "run"])
@pytest.mark.parametrize("name", ["orders.json", "spent.json", "sweep_id", "fresh.json", "gpus.json", "hold"])
def test_what_the_run_refuses_the_plan_refuses(name, flags, place, capsys):
    path = place.folder / name
    if name == "hold":
        path = place.runs / "artifacts" / "sweeps" / f"{sweep_id(place)}.json"
    path.write_bytes(b'{"half')
    before = {file: file.read_bytes() for file in place.folder.rglob("*") if file.is_file()}
    assert sweep.main([str(place.runs.parent / "s.yaml"), *flags]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert {file: file.read_bytes() for file in place.folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["orders.json", "spent.json", "fresh.json"])
def test_a_fresh_start_needs_none_of_what_it_leaves_behind(name, place, capsys):
    (place.folder / name).write_bytes(b'{"half')
    assert sweep.main([str(place.runs.parent / "s.yaml"), "--plan", "--json", "--fresh"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 1
