"""A file to start from: it loads, it plans, and nothing of somebody's is overwritten."""

from __future__ import annotations

import json
import shlex

import pytest
from small_coco import write_coco
from small_voc import write_voc

from orchestrator import init, sweep
from orchestrator.init import TEMPLATES
from orchestrator.spec.reader import load_spec

AWKWARD = 'a folder\'s #1: é "quoted" 🦊'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("data", sorted(path.stem for path in TEMPLATES.iterdir()))
def test_a_template_loads_and_plans(here, capsys, data):
    """Weights from the network are left out: there may be none."""
    writers = {"voc2012": write_voc, "coco2014": write_coco}
    root, weights = [], []
    if data in writers:
        (here / AWKWARD).mkdir()
        writers[data](here / AWKWARD / "root")
        root, weights = ["--root", f"{AWKWARD}/root"], ["--set", "backbone.weights=null"]
    assert init.main(["made/first", "--data", data, *root]) == 0
    path, following = capsys.readouterr().out.splitlines()
    spec = load_spec(here / path)
    assert spec.description.startswith("Which pair of alphas")
    assert spec.base.data.name == data
    program, command, *arguments = shlex.split(following)
    assert (program, command) == ("aream", "sweep")
    assert sweep.main([*arguments, "--json", *weights]) == 0
    stages = json.loads(capsys.readouterr().out)
    assert stages["trials"]


def test_the_folder_of_images_can_be_put_in_later(here, capsys):
    assert init.main(["first", "--data", "voc2012"]) == 0
    assert "replace FOLDER there with the folder of voc2012" in capsys.readouterr().out
    assert load_spec(here / "first" / "sweep.yaml").base.data.config.root == str(here / "FOLDER")


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
        (("file/first",), "file/first: Not a directory"),
    ],
)
def test_what_cannot_be_written_is_refused(here, capsys, arguments, words):
    (here / "file").write_text("")
    assert init.main(list(arguments)) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["file"]
