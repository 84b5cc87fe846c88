"""Commands that look at what a sweep left use its plug-ins, and say what they cannot use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_plugins import ROOT, write_plugins
from PIL import Image

pytestmark = pytest.mark.slow

DATASET = '''
"""Stripes of one colour a class."""

from aream.config import config, location
from aream.datasets import folder

KIND = "datasets"


@config
class Config:
    root: str = location()


def build(config, found=None):
    return folder.build(folder.Config(root=config.root, images="*.png", masks=folder.Masks(files="{name}_mask.bmp"),
                                      classes=("stripe",), labels="from_masks", split=folder.Split(val=0.5)), found)
'''
LOOKS = """
import json, pathlib
from PIL import Image
from orchestrator.results.dataset import open_dataset, sweep_dataset
from orchestrator.spec.recorded_plugins import as_recorded
import hashlib

here = pathlib.Path.cwd()
for number in range(4):
    mask = Image.new("L", (8, 6)); mask.paste(1, (0, 0, number + 1, 6)); mask.save(f"{number}_mask.bmp")
    Image.merge("RGB", [mask.point(lambda value: 200 * value + number)] * 3).save(f"{number}.png")
text = (here / "stripes.py").read_text()
assert as_recorded(here) == {}
plugins = [{"module": f"aream.{kind}.{name}", "place": f"{here}/{name}.py",
            "digest": hashlib.sha256((here / f"{name}.py").read_bytes()).hexdigest()[:16]}
           for kind, name in (("datasets", "stripes"), ("methods", "patch_classes"))]
data = {"name": "stripes", "config": {"root": str(here)}}
(here / "config.json").write_text(json.dumps({"data": data, "plugins": plugins}))
(here / "patch_classes.py").unlink()
(here / "stripes.py").write_text(text + "LATER = 1\\n")
assert sweep_dataset(here) is None
(here / "stripes.py").unlink()
assert sweep_dataset(here) is None
(here / "stripes.py").write_text(text)
assert len(open_dataset(here).ids("train")) == 2
assert as_recorded(here) == {"plugins": plugins[:1]}
"""
TRAINS = """
import dataclasses, json, pathlib
from workers.plugins import activate, read_plugin

activate([read_plugin("cam_vit.py", pathlib.Path.cwd())])
from small_trials import TRIAL, fingerprint
from aream.config import Component
from aream.methods import mean_affinity
from orchestrator import artifacts
from orchestrator.spec.recorded import recorded_component
from workers.artifacts.opening import open_store
from workers.components import build_dataset
from workers.pipelines import variant_stages
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner

backbone = recorded_component("aream.backbones", {"name": "cam_vit", "depth": 2}, "backbone")
method = Component(name="mean_affinity", config=mean_affinity.Config())
labels = variant_stages(dataclasses.replace(TRIAL, backbone=backbone, method=method), fingerprint).labels
pathlib.Path("runs/mine").mkdir(parents=True)
StageRunner(open_store(None, pathlib.Path("runs/artifacts").absolute()), Runtime()).run(labels)
data = {"classes": list(build_dataset(TRIAL.data).class_names)}
content = {"ranking": [{"label_artifact": labels.key}], "data": data, "segmentation": []}
pathlib.Path("runs/mine/summary.json").write_text(json.dumps(content))
assert artifacts.main(["export", "best", "model", "--what", "weights", "--sweep", "mine", "--runs", "runs"]) == 0
"""

USES = """
from orchestrator import infer

given = ["--weights", "model", "--images", "photos", "--out", "found"]
assert infer.main(given) == 2
assert infer.main([*given, "--plugin", "cam_vit.py"]) == 0
"""


def done(folder: Path, program: str, expect: int = 0) -> str:
    """In a process of its own: what is activated stays."""
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"}, capture_output=True, text=True,
        timeout=250,
    )  # fmt: skip
    assert found.returncode == expect, found.stdout + found.stderr
    return found.stderr


def test_a_sweeps_dataset_is_opened_and_what_is_missing_or_changed_is_said(tmp_path):
    write_plugins(tmp_path)
    (tmp_path / "stripes.py").write_text(DATASET)
    said = done(tmp_path, LOOKS)
    first, second, third = said.splitlines()
    assert "without its images and the figures made of them: plug-in aream.datasets.stripes: " in first
    assert first.endswith("stripes.py: has changed since the sweep used it")
    assert "stripes.py: cannot be read as a plug-in" in second
    assert "plug-in aream.methods.patch_classes: " in third
    assert third.endswith("; what needs it is left out")


def test_a_model_of_a_plug_in_is_used_with_it(tmp_path):
    write_plugins(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.linear_gradient("L").resize((40, 32)).convert("RGB").save(tmp_path / "photos/one.png")
    done(tmp_path, TRAINS)
    said = done(tmp_path, USES)
    assert said.count("aream.backbones has no 'cam_vit'") == 1
    assert (tmp_path / "found/labels/one.png").is_file()
