"""A file outside of the checkout is one more module of a registry, and part of the identity of what uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_plugins import ROOT, write_plugins

from aream.augmentations import deit
from aream.config import Component
from aream.errors import ConfigError
from workers import plugins
from workers.plugins import Plugin, activate, read_plugin

SWEEP = """
# Whose maps?
name: own
runs: {folder}/runs
plugins: [cam_vit.py, patch_classes.py]
data: {{name: shapes, image_size: 32, train_images: 8, val_images: 4}}
backbone: {{name: cam_vit, depth: 2}}
train: {{epochs: 2, warmup_epochs: 1, lr: 5e-4, lr_warmup_epochs: 0, batch_size: 4, image_size: 32}}
inference: {{image_size: 32}}
axes:
  method: [mean_affinity, patch_classes]
"""


def planned(folder: Path, *settings: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what is activated stays."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.sweep", "own.yaml", "--plan", "--json", *settings],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def keys(folder: Path, *settings: str) -> dict[str, str]:
    """Key of each training, by its method."""
    content = json.loads(planned(folder, *settings).stdout)
    return {str(trial["values"]["method"]): trial["key"] for trial in content["trials"]}


@pytest.fixture
def folder(tmp_path):
    write_plugins(tmp_path)
    (tmp_path / "own.yaml").write_text(SWEEP.format(folder=tmp_path))
    return tmp_path


@pytest.mark.slow
def test_what_a_file_holds_is_part_of_the_identity_of_what_uses_it(folder):
    first = keys(folder)
    assert set(first) == {"mean_affinity", "patch_classes"}
    (folder / "elsewhere").mkdir()
    moved = f"plugins=[{folder}/elsewhere/cam_vit.py, patch_classes.py]"
    (folder / "elsewhere/cam_vit.py").write_bytes((folder / "cam_vit.py").read_bytes())
    assert keys(folder, "--set", moved) == first, "its place is not"
    with (folder / "patch_classes.py").open("a") as file:
        file.write("LATER = 1\n")
    second = keys(folder)
    assert second["mean_affinity"] == first["mean_affinity"]
    assert second["patch_classes"] != first["patch_classes"]


@pytest.mark.slow
def test_a_sweep_file_without_it_does_not_know_it(folder):
    said = planned(folder, "--set", "plugins=[patch_classes.py]", expect=2).stderr
    assert "own.yaml:7: backbone.name: aream.backbones has no 'cam_vit'" in said
    said = planned(folder, "--set", "plugins=[cam_vit.py, nowhere.py]", expect=2).stderr
    assert "plugins[1]: " in said
    assert "nowhere.py: cannot be read as a plug-in" in said


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mine.py", "x = 1", "does not say what it is; need a line KIND = one of 'augmentations', 'backbones'"),
        ("mine.py", "KIND = 'backbone'", "KIND is 'backbone'; need one of"),
        ("mine.py", "KIND = ", "is no Python"),
        ("my-own.py", "KIND = 'methods'", "need letters, digits and _"),
        ("_mine.py", "KIND = 'methods'", "need letters, digits and _"),
    ],
)
def test_files_that_are_no_plug_ins_are_refused_and_not_run(tmp_path, name, text, words):
    write(tmp_path, name, f"{text}\nraise SystemError('it was run')" if "= '" in text else text)
    with pytest.raises(ConfigError, match=words):
        read_plugin(name, tmp_path)


@pytest.mark.parametrize(("place", "words"), [("no.such.module", "no such module"), ("json", "is a package")])
def test_modules_that_are_not_there_are_refused(tmp_path, place, words):
    with pytest.raises(ConfigError, match=words):
        read_plugin(place, tmp_path)


def test_a_name_of_this_project_stays_its_own(tmp_path):
    with pytest.raises(ConfigError, match=r"aream\.methods has a module aream; give the file another name"):
        activate([Plugin("methods", "aream", "aream.py", "")])


def test_a_file_that_changed_is_said_to_have(tmp_path, monkeypatch):
    """As in a notebook, where one process reads a sweep file again and again."""
    monkeypatch.setattr(plugins, "_active", {"aream.methods.mine": Plugin("methods", "mine", "own/mine.py", "x = 1")})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^own/mine\.py: has changed since this process read it.* restart the"):
        activate([Plugin("methods", "mine", "own/mine.py", "x = 2")])
    with pytest.raises(ConfigError, match="has changed since this process read it"):
        activate([Plugin("methods", "mine", f"{tmp_path}/own/mine.py", "x = 2")])
    with pytest.raises(ConfigError, match=r"^other/mine\.py: another plug-in is called mine too: own/mine\.py"):
        activate([Plugin("methods", "mine", "other/mine.py", "x = 2")])


def test_they_are_small(monkeypatch):
    monkeypatch.setattr(plugins, "MOST_BYTES", 10)
    with pytest.raises(ConfigError, match="at most 10 are allowed"):
        plugins._packed([Plugin("methods", "mine", "mine.py", "x")])


@pytest.mark.slow
def test_processes_that_are_started_have_them_and_so_has_an_installed_package(tmp_path):
    """A distribution that declares one as an entry point is all that is needed."""
    (tmp_path / "their_host.py").write_bytes(write_plugins(tmp_path / "made")[0].read_bytes())
    information = tmp_path / "theirs-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[aream.backbones]\ntheir_vit = their_host\n")
    (tmp_path / "own.yaml").write_text(
        SWEEP.format(folder=tmp_path).replace("cam_vit, depth", "their_vit, depth").replace("cam_vit.py, ", "made/")
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    program = (
        "from orchestrator.spec.reader import load_spec; import pathlib, pickle, subprocess, sys\n"
        "spec = load_spec(pathlib.Path('own.yaml')); content = pickle.dumps(spec.base)\n"
        "there = 'import sys, pickle; from workers.plugins import set_up; set_up(); "
        "print(pickle.load(sys.stdin.buffer).backbone)'\n"
        "print(subprocess.run([sys.executable, '-c', there], input=content, capture_output=True, check=True).stdout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
    )
    assert "name='their_vit'" in done.stdout, done.stderr


def test_what_has_the_name_counts_whatever_its_settings_are_called_and_so_does_what_it_imports(monkeypatch):
    mine = Plugin(
        "augmentations", "mine", "mine.py", "from aream.augmentations.deit import Config\nimport aream.methods.ours"
    )
    ours = Plugin("methods", "ours", "ours.py", "from aream.refiners import theirs")
    theirs = Plugin("refiners", "theirs", "theirs.py", "x = 1")
    other = Plugin("refiners", "other", "other.py", "from aream.methods import ours")
    monkeypatch.setattr(plugins, "_active", {plugin.module: plugin for plugin in (other, theirs, mine, ours)})
    used = {plugin.module: plugin.digest for plugin in (mine, ours, theirs)}
    named = Component(name="mine", config=deit.Config())
    assert plugins.used_by("train_cam", named) == used
    assert plugins.used_by("train_cam", {"some": [(named,)]}) == used
    assert plugins.used_by("train_cam", Component(name="deit", config=deit.Config())) == {}
    assert plugins.used_by("ours", None) == {plugin.module: plugin.digest for plugin in (ours, theirs)}
