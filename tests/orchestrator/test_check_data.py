"""The command a person types on a folder that somebody else prepared."""

from __future__ import annotations

import json
import shlex

import pytest
from small_coco import write_coco
from small_voc import write_voc

from aream.config import Component
from aream.datasets import coco2014, shapes, voc2012
from aream.errors import DataError
from orchestrator import check_data
from orchestrator.preflight.prepare import check_command, prepare
from orchestrator.spec.reader import load_spec
from workers.staging import cache

SWEEP = """
name: checked
runs: {folder}/runs
data: {{name: voc2012, root: {root}}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32}}
"""


@pytest.fixture
def run(capsys):
    def command(*arguments: object, expect: int = 0) -> str:
        assert check_data.main([str(argument) for argument in arguments]) == expect
        shown = capsys.readouterr()
        return shown.out + shown.err

    return command


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))
    monkeypatch.setenv(cache.HANDED, "")
    return write_voc(tmp_path / "VOC2012")


def damage(root):
    (root / "JPEGImages/2007_000000.jpg").unlink()
    for index in range(1, 9):
        (root / f"JPEGImages/2007_{index:06d}.jpg").write_bytes(b"")


def test_a_table_of_what_is_wrong(run, root):
    assert "voc2012 in" in (text := run("voc2012", "--root", root))
    assert "WRONG" not in text
    damage(root)
    text = run("voc2012", "--root", root, expect=1)
    assert "images, train: listed images are missing\n" in text
    assert "images, train: images do not decode: 8" in text
    assert "2007_000005.jpg: does not decode" in text
    assert "and 3 more" in text
    rows = {tuple(cell.strip() for cell in line.split("│")[1:3]): line for line in text.splitlines() if "│" in line}
    assert "WRONG [1]" in rows["images", "train"]
    assert "ok" in rows["images", "val"]
    assert "WRONG" not in rows["images", "val"]


def test_json_says_the_same(run, root):
    damage(root)
    (checked,) = json.loads(run("voc2012", "--root", root, "--json", expect=1))
    assert (checked["data"]["name"], checked["data"]["root"], checked["good"]) == ("voc2012", str(root), False)
    counts = {(one["check"], one["split"], one["kind"]): one["count"] for one in checked["findings"] if one["hard"]}
    assert counts == {
        ("images", "train", "listed images are missing"): 1,
        ("images", "train", "images do not decode"): 8,
    }


@pytest.mark.parametrize(("options", "decoded"), [(("--sample", "2"), 2), (("--deep",), 12), ((), 12)])
def test_how_many_are_decoded(run, root, options, decoded):
    (checked,) = json.loads(run("voc2012", "--root", root, "--json", *options))
    assert {"check": "images", "split": "train", "count": decoded, "total": 12} in checked["looked_at"]


def test_keys_of_the_dataset(run, root):
    (root / "SegmentationClass").rename(root / "Masks")
    assert "val images have no mask: 4" in run("voc2012", "--root", root, expect=1)
    run("voc2012", "--root", root, "--set", "masks=Masks")
    run("voc2012", "--set", f"root={root}", "--set", "data.masks=Masks")


def test_coco_and_what_is_drawn(run, tmp_path):
    assert "without any object are left out" in run("coco2014", "--root", write_coco(tmp_path / "coco"))
    assert "6 of 6" in run("shapes", "--set", "train_images=6", "--set", "val_images=2")


def test_every_dataset_of_a_sweep(run, root, tmp_path):
    path = tmp_path / "sweep.yaml"
    (root / "Empty").mkdir()
    path.write_text(SWEEP.format(folder=tmp_path, root=root) + "axes: {data.masks: {grid: [SegmentationClass, Empty]}}")
    text = run(path, expect=1)
    assert text.count("voc2012 in") == 2
    assert text.count("val images have no mask: 4") == 1
    run(path, "--set", "axes={}")
    assert "nowhere holds no JPEGImages" in run(path, "--root", tmp_path / "nowhere", expect=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("voc", "--root", "x"), "voc2012"),
        (("voc2012",), "data.root: missing"),
        (("voc2012", "--root", "x", "--set", "maks=y"), "did you mean masks"),
        (("coco2014", "--root", "x", "--set", "mask_ids=91"), "mask_ids"),
        (("voc2012", "--root", "x", "--set", "masks"), "need KEY=VALUE"),
        (("missing.yaml",), "missing.yaml"),
        (("../voc2012", "--root", "x"), "it has:"),
    ],
)
def test_commands_that_mean_nothing(run, arguments, words):
    assert words in run(*arguments, expect=2)


@pytest.mark.parametrize("arguments", [("voc2012", "--sample", "0"), ("voc2012", "--sample", "3", "--deep"), ()])
def test_options_that_exclude_each_other(arguments):
    with pytest.raises(SystemExit, match="2"):
        check_data.main(arguments)


def test_a_sweep_on_a_wrong_root_says_which_command_tells_more(run, root, tmp_path):
    damage(root)
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(folder=tmp_path, root=root))
    with pytest.raises(DataError) as caught:
        prepare(load_spec(tmp_path / "sweep.yaml"))
    command = str(caught.value).splitlines()[-1].partition("orchestrator.check_data ")[2]
    assert "listed images are missing" in run(*shlex.split(command), expect=1)


@pytest.mark.parametrize(
    "config",
    [
        voc2012.Config(root="/a folder/it's", masks="Masks", scored_classes=(0, 3)),
        coco2014.Config(root="/x", objectless="keep", train_list="/y/list.txt"),
        shapes.Config(image_size=32),
    ],
)
def test_the_command_names_the_same_dataset(config):
    component = Component(name=type(config).__module__.rpartition(".")[2], config=config)
    words = shlex.split(check_command(component))[3:]
    options = check_data.main.parser().parse_args(words)
    assert [found for found, _ in check_data._datasets(options)] == [component]
