"""Errors that are not ours, in real sweeps: named with their log, and tried again only where that may help.

What fails is a component that a registry finds beside the project's own: an augmentation that raises, or dies.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import sweeps

BREAKS = """
import errno, os, signal
from pathlib import Path

from aream.augmentations import deit
from aream.config import config
from aream.data.files import read_bounded


@config
class Config:
    kind: str
    folder: str


def build(config, side, mean, std):
    return Breaks(config, deit.build(deit.Config(rand_augment=None, erasing=0.0), side, mean, std))


class Breaks:
    def __init__(self, config, well):
        self.config, self.well = config, well

    def __call__(self, image):
        kind, file = self.config.kind, Path(self.config.folder) / self.config.kind
        before = len(file.read_text()) if file.exists() else 0
        if kind != "killed" or not before:
            with file.open("a") as marks:
                marks.write(".")
        if kind == "code":
            raise KeyError("no such thing")
        if kind == "disk":
            raise OSError(errno.EIO, "Input/output error", "/data/one.jpg")
        if kind == "file":
            read_bounded(Path("/proc/self/mem"))  # a regular file without a first byte
        if not before:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.well(image)
"""
FOUND = """
import aream.augmentations

aream.augmentations.__path__.append({folder!r})
"""
UNREAD = "/proc/self/mem: cannot be read at the moment (Input/output error)"
TEXT = """
name: broken
runs: {folder}/runs
data: {{name: shapes, image_size: 32, train_images: 8, val_images: 4}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2, initialisation: mimetic}}
method: {{name: aream, refiner: {{name: par, dilations: [1], iterations: 1}}}}
train: {{epochs: {epochs}, warmup_epochs: {warmup}, batch_size: 8, lr: 1e-3, lr_warmup_epochs: 0, image_size: 32}}
inference: {{image_size: 32}}
concurrency: 1
limits: {{retries: 2}}
axes: {axes}
"""


@pytest.fixture
def run(tmp_path):
    """Run a sweep whose augmentation breaks; returns its exit status, what it said, and how often each kind broke."""
    (tmp_path / "added").mkdir()
    (tmp_path / "added/breaks.py").write_text(BREAKS)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(FOUND.format(folder=str(tmp_path / "added")))
    path = f"{sweeps.ROOT}:{tmp_path / 'site'}"

    def run(axes: str, warmup: int, epochs: int) -> tuple[int, str, dict[str, int]]:
        sweep = tmp_path / "broken.yaml"
        sweep.write_text(TEXT.format(folder=tmp_path, axes=axes, warmup=warmup, epochs=epochs))
        done = subprocess.run(
            sweeps.command(sweep), cwd=tmp_path, env={**sweeps.environment(), "PYTHONPATH": path}, text=True,
            capture_output=True, timeout=600,
        )  # fmt: skip
        marks = {
            file.name: len(file.read_text()) for file in tmp_path.iterdir() if file.suffix == "" and file.is_file()
        }
        return done.returncode, done.stdout + done.stderr, marks

    return run


def breaking(kind, folder) -> str:
    return f"{{name: breaks, kind: {kind}, folder: {folder}}}"


@pytest.mark.integration
def test_each_error_is_named_and_tried_again_only_where_that_may_help(run, tmp_path):
    kinds = ", ".join(breaking(kind, tmp_path) for kind in ("code", "disk", "file", "killed"))
    status, said, marks = run(f"{{train.augmentation: {{grid: [{kinds}]}}}}", warmup=0, epochs=1)
    assert status == 1, said
    assert marks == {"code": 1, "disk": 3, "file": 3, "killed": 1}, said
    ended = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert len(ended) == 3, said
    code, disk, file = (next(line for line in ended if words in line) for words in ("KeyError", "Errno 5", UNREAD))
    assert re.search(r"KeyError: 'no such thing'.*\(log: \S+runs/broken/logs/train_cam-\w+\.log\)", code), said
    assert re.search(
        r"failed 3 times; the last time: OSError: \[Errno 5\] Input/output error: '/data/one.jpg'.*\(log: ", disk
    ), said
    assert "failed 3 times; the last time: DataUnavailable: " in file, said
    again = [line for line in said.splitlines() if "is tried again" in line]
    assert [line.split("; try ")[1].split(" (")[0] for line in again if "Errno 5" in line] == [
        "2 of 3 follows", "3 of 3 follows",
    ], said  # fmt: skip
    (killed,) = [line for line in again if "kind=killed" in line]
    assert "its worker was lost" in killed
    for line in ended:
        log = line.rsplit("(log: ", 1)[1].rstrip(")")
        assert "Traceback" in Path(log).read_text()


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "tries", "words"), [("code", 1, "KeyError: 'no such thing'"), ("file", 3, UNREAD)])
def test_an_error_in_a_stage_that_trials_share_is_named_too(run, tmp_path, kind, tries, words):
    augmentation = breaking(kind, tmp_path)
    axes = f"{{train.augmentation: [{augmentation}], method.alpha_low: [0.2, 0.3]}}"
    status, said, marks = run(axes, warmup=1, epochs=2)
    assert status == 1, said
    (shared,) = [line for line in said.splitlines() if line.startswith("failed: warmup-")]
    assert words in shared
    assert "(log: " in shared
    assert marks[kind] == tries
    trials = [line for line in said.splitlines() if line.startswith("failed: train_cam-")]
    assert len(trials) == 2, said
    assert all("its input warmup-" in line for line in trials)


@pytest.mark.integration
def test_a_search_runs_into_an_error_of_what_its_points_share_once(run, tmp_path):
    axes = (
        f"{{train.augmentation: {{choice: [{breaking('code', tmp_path)}]}}, method.alpha_low: {{uniform: [0.1, 0.3]}}}}"
    )
    status, said, marks = run(f"{axes}\nsearch: {{trials: 4}}", warmup=1, epochs=2)
    assert status == 1, said
    assert marks["code"] == 1
    trials = [line for line in said.splitlines() if line.startswith("failed: train_cam-")]
    assert len(trials) == 4, said
    assert all("its input warmup-" in line for line in trials)
