"""What code a stage runs, as a digest: of whatever it reaches, and of no prose."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_trials import TRIAL, Work, fingerprint

from aream import discover
from aream.backbones import conformer
from aream.config import Component
from workers import stages
from workers.pipelines import training_stage, variant_stages
from workers.stage_source import any_source_digest, source_digest

ROOT = Path(__file__).resolve().parents[2]
ASKED = """
import json
from aream import discover
from workers import stages
from workers.stage_source import any_source_digest
print(json.dumps({name: any_source_digest(name) for name in discover.names(stages)}))
"""


@pytest.fixture(scope="module")
def today():
    return {name: any_source_digest(name) for name in discover.names(stages)}


@pytest.fixture
def changed(tmp_path, today):
    """The stages whose digest is another one after an edit of a copy of the code."""

    def changed(file: str, before: str, after: str) -> set[str]:
        for package in ("aream", "workers"):
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        path = tmp_path / file
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))
        done = subprocess.run(
            [sys.executable, "-c", ASKED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found.keys() == today.keys()
        return {name for name in found if found[name] != today[name]}

    return changed


@pytest.mark.slow
def test_a_comment_and_a_docstring_change_nothing(changed):
    assert (
        changed("aream/cams/maps.py", "\ndef ", '\n# Why.\ndef said() -> None:\n    """Of nothing."""\n\n\ndef ')
        == set()
    )


@pytest.mark.slow
def test_a_formula_changes_who_computes_with_it(changed):
    found = changed("aream/cams/maps.py", "def normalise(", "def normalise(*old):\n    return None\n\n\ndef normalise(")
    assert {"infer_cam", "pseudo_label"} & found
    assert "external_labels" not in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after", "some", "none"),
    [
        ("aream/segmentation/train.py", "total += loss.detach()", "total -= loss.detach()",
         {"train_seg"}, {"train_cam", "pseudo_label"}),
        ("aream/methods/_plain.py", "return False", "return not True", {"train_cam"}, {"warmup", "pseudo_label"}),
        ("aream/refiners/par.py", "\nimport torch\n", "\nimport torch\n\nEXTRA = 1\n",
         {"pseudo_label", "train_cam"}, {"external_labels"}),
        ("workers/stages/train_cam.py", "float(epoch)", "float(epoch + 1)",
         {"train_cam"}, {"pseudo_label", "train_seg", "warmup"}),
        ("workers/artifacts/store.py", "\nclass ArtifactStore", "\nEXTRA = 1\n\n\nclass ArtifactStore",
         set(), set(discover.names(stages))),
    ],
)  # fmt: skip
def test_what_a_change_concerns(changed, file, before, after, some, none):
    found = changed(file, before, after)
    assert some <= found
    assert not none & found


def test_another_component_is_other_code_and_its_settings_are_not():
    stage = training_stage(TRIAL, fingerprint)
    assert source_digest(stage) == source_digest(
        dataclasses.replace(stage, config=dataclasses.replace(stage.config, seed=3))
    )
    other = Component(name="conformer", config=conformer.Config())
    config = dataclasses.replace(stage.config, backbone=other)
    assert source_digest(dataclasses.replace(stage, config=config)) != source_digest(stage)


def test_records_say_code_torch_and_device(tmp_path):
    work, stages_ = Work(tmp_path), variant_stages(TRIAL, fingerprint)
    record = work.runner.run(stages_.cams)
    assert record.source == source_digest(stages_.cams)
    assert record.versions["torch"]
    assert record.device.startswith("cpu, 1 thread: ")
