"""The contract tests over files of somebody else, as the documents say to run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_plugins import ROOT, write_plugins

pytestmark = pytest.mark.slow

DATASET = '''
"""Stripes of one colour a class."""

KIND = "datasets"

from pathlib import Path

from PIL import Image

from aream.config import config, location
from aream.datasets import folder


@config
class Config:
    root: str = location()
    """The folder of the stripes."""


def build(config, found=None):
    masks, split = folder.Masks(files="{name}_mask.bmp"), folder.Split(val=0.5)
    return folder.build(folder.Config(root=config.root, images="*.png", masks=masks, classes=("stripe",),
                                      labels="from_masks", split=split), found)


def contract_config(place: Path) -> Config:
    for number in range(8):
        mask = Image.new("L", (12, 10))
        mask.paste(1, (0, 0, number % 4 + 1, 10))
        mask.save(place / f"{number}_mask.bmp")
        Image.merge("RGB", [mask.point(lambda value: 200 * value + number)] * 3).save(place / f"{number}.png")
    return Config(root=str(place))
'''


def contracts(folder: Path, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(ROOT / "tests/contracts"), "-n", "0", "-q", "-p", "no:cacheprovider",
         "--override-ini=addopts=", "-m", "not integration and not gpu", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_backbone_a_method_and_a_dataset_keep_them(tmp_path):
    places = [path.name for path in write_plugins(tmp_path)]
    (tmp_path / "stripes.py").write_text(DATASET)
    named = [f"--plugin={place}" for place in (*places, "stripes.py")]
    said = contracts(tmp_path, *named, "-k", "cam_vit or patch_classes or stripes", "-rA")
    passed = [line for line in said.splitlines() if "PASSED" in line]
    for name, file in (("cam_vit", "backbones"), ("patch_classes", "methods"), ("stripes", "datasets")):
        assert any(f"test_{file}.py" in line and name in line for line in passed), said


def test_a_broken_one_is_found(tmp_path):
    backbone, _ = write_plugins(tmp_path)
    text = backbone.read_text()
    assert "return host.depth, host.patch_size" in text
    backbone.write_text(text.replace("return host.depth, host.patch_size", "return host.depth + 1, host.patch_size"))
    said = contracts(tmp_path, f"--plugin={backbone.name}", "-k", "cam_vit and test_contract", expect=1)
    assert "test_contract[cam_vit]" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1\n", "KIND"), ('KIND = "hats"\n', "hats"), ("def (\n", "own.py"), (None, "own.py")],
)
def test_what_is_no_plug_in_is_one_line(tmp_path, text, words):
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    said = contracts(tmp_path, "--plugin=own.py", expect=4)
    assert "ERROR: --plugin: " in said
    assert words in said
    assert "Traceback" not in said
