"""A file to start from: it loads, it plans, and nothing of somebody's is overwritten."""

from __future__ import annotations

import json
import os
import shlex

import numpy as np
import pytest
from PIL import Image
from small_coco import write_coco, write_coco2017
from small_folder import coco_json, names_csv, one_hot_csv, write_folder, xml_folder
from small_voc import write_voc

from orchestrator import init, sweep
from orchestrator.init import TEMPLATES
from orchestrator.spec.metric_checks import remarks
from orchestrator.spec.named_data import named_data
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import read_source
from orchestrator.submission.readable_yaml import readable
from workers.checks.dataset import check_dataset

AWKWARD = 'a folder\'s #1: é "quoted" 🦊'


def write_own(root):
    names_csv(root / "labels.csv", write_folder(root))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("data", sorted(path.stem for path in TEMPLATES.iterdir()))
def test_a_template_loads_and_plans(here, capsys, data):
    """Weights from the network are left out: there may be none."""
    writers = {"voc2012": write_voc, "coco2014": write_coco, "coco2017": write_coco2017, "folder": write_own}
    root, weights = [], []
    if data in writers:
        (here / AWKWARD).mkdir()
        writers[data](here / AWKWARD / "root")
        root, weights = ["--root", f"{AWKWARD}/root"], ["--set", "backbone.weights=null"]
    assert init.main(["made/first", "--data", data, *root]) == 0
    path, *_, following = capsys.readouterr().out.splitlines()
    spec = load_spec(here / path)
    assert spec.description.startswith("Which pair of alphas")
    assert spec.base.data.name == data
    program, command, *arguments = shlex.split(following)
    assert (program, command) == ("aream", "sweep")
    assert sweep.main([*arguments, "--json", *weights]) == 0
    stages = json.loads(capsys.readouterr().out)
    assert stages["trials"]


@pytest.mark.parametrize("arguments", [["--data", "."], ["--data", "voc2012", "--root", "."]])
def test_a_folder_that_no_sweep_file_can_name_is_refused(here, capsys, monkeypatch, arguments):
    folder = here / os.fsdecode(b"a\xff")
    folder.mkdir()
    write_own(folder)
    monkeypatch.chdir(folder)
    assert init.main(["made", *arguments]) == 2
    assert f"{arguments[-2]}: " in (said := capsys.readouterr().err)
    assert "a name in it is not UTF-8" in said
    assert not (folder / "made").exists()


def test_the_folder_of_images_can_be_put_in_later(here, capsys):
    assert init.main(["first", "--data", "voc2012"]) == 0
    assert "replace FOLDER there with the folder of voc2012" in capsys.readouterr().out
    assert load_spec(here / "first" / "sweep.yaml").base.data.config.root == str(here / "FOLDER")


def test_a_folder_of_any_name_is_named_at_the_command_line_too(here):
    assert named_data("voc2012", f"/{AWKWARD}", ()).config.root == f"/{AWKWARD}"


@pytest.mark.parametrize(
    "name", ["08", "1e5", "0o17", "1.", ".5", "-7", "+1E-3", "12:30", "yes", "a: b", "1_0", "~", "=", "é", "2007_01"]
)
def test_names_stay_names_in_a_file_that_is_written(here, name):
    (here / "x.yaml").write_text(readable({"name": name, name: [name]}), encoding="utf-8")
    assert read_source(here / "x.yaml", ()).data == {"name": name, name: [name]}


def test_names_can_be_read_in_a_file_that_is_written():
    assert readable({"root": "/Büro", "classes": ["狐"]}) == "root: /Büro\nclasses:\n- 狐\n"


def test_data_in_a_store_keeps_its_uri(here):
    assert init.main(["first", "--data", "coco2014", "--root", "s3://lab/coco.tar#coco2014"]) == 0
    assert load_spec(here / "first" / "sweep.yaml").base.data.config.root == "s3://lab/coco.tar#coco2014"


def test_a_file_that_is_there_stays(here, capsys):
    (here / "sweep.yaml").write_text("mine")
    assert init.main(["."]) == 2
    assert "sweep.yaml exists already and was not changed" in capsys.readouterr().err
    assert (here / "sweep.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("first", "--root", "x"), "shapes is drawn and lies in no folder"),
        (
            ("first", "--data", "photo"),
            "--data: given 'photo'; need coco2014, coco2017, folder, shapes, voc2012, or a folder of images",
        ),
        (("first", "--data", ".", "--root", "x"), "--root: given 'x' beside the folder '.'; need one of them"),
        (("first", "--data", "."), "no image; looked at 1 files"),
        (("file/first",), "file/first: Not a directory"),
    ],
)
def test_what_cannot_be_written_is_refused(here, capsys, arguments, words):
    (here / "file").write_text("")
    assert init.main(list(arguments)) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["file"]


def own_in_table(root):
    names_csv(root / "labels.csv", write_folder(root))


def own_in_columns(root):
    one_hot_csv(root / "table.tsv", write_folder(root))
    (root / "classes.txt").unlink()


def own_in_coco(root):
    coco_json(root / "instances.json", write_folder(root))
    (root / "classes.txt").unlink()


def own_in_xml(root):
    labels = write_folder(root)
    xml_folder(root / "Annotations", labels)


def own_in_folders(root):
    for name, found in write_folder(root, masked=0).items():
        (root / "images" / found[0]).mkdir(exist_ok=True)
        (root / "images" / name).rename(root / "images" / found[0] / name)
    (root / "classes.txt").unlink()


def own_in_masks(root):
    write_folder(root)


def own_with_one_value(root):
    write_folder(root, names=("polyp",), empty=3)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)


def own_with_masks_beside(root):
    own_in_table(root)
    for path in (root / "masks").iterdir():
        path.rename(root / "images" / f"{path.stem}_mask.png")


def own_in_colours(root):
    write_folder(root)
    colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)], dtype=np.uint8)
    for path in (root / "masks").iterdir():
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)


OWN = (own_in_table, own_in_columns, own_in_coco, own_in_xml, own_in_folders, own_in_masks, own_with_one_value,
       own_with_masks_beside, own_in_colours)  # fmt: skip


@pytest.mark.parametrize("write", OWN)
def test_a_folder_is_looked_at_and_understood(here, capsys, write):
    """What is proposed reads every image, with its masks where it has some, and nothing is wrong with it."""
    write(here / AWKWARD)
    assert init.main(["mine", "--data", AWKWARD]) == 0
    path, counts, *_ = capsys.readouterr().out.splitlines()
    assert sum(int(word) for word in counts.split() if word.isdigit()) == 12 + int(counts.partition(" class")[0][-1])
    spec = load_spec(here / path)
    found = check_dataset(spec.base.data, sample=None)
    assert not found.hard, [one.examples for one in found if one.hard]
    assert found.left_out == {}
    masks = {one.split: one.count for one in found.looked if one.check == "masks"}
    assert sum(masks.values()) == (0 if write is own_in_folders else 12)
    assert (spec.base.labels.rule == "otsu") == (write is own_in_folders)
    assert any(axis.variant for axis in spec.axes) == (write is not own_in_folders)
    assert remarks(spec) == []
