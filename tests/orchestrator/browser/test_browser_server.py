"""The label browser's server, as a process of its own on the labels of a real sweep."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest
from PIL import Image
from small_sweep import IMAGES, SIDE, write_sweep

from aream.metrics import IGNORE
from orchestrator import api
from orchestrator.browser.labelled import UNCERTAIN
from orchestrator.browser.sweep import BrowsedSweep
from orchestrator.workspace import locate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    refiners = ["none", {"name": "par", "iterations": 2}]
    axes = {"inference.layers": ["none", "all"], "labels.refiner": {"grid": refiners}}
    spec = api.load(write_sweep(tmp_path_factory.mktemp("browser"), axes=axes))
    api.run_trial(spec, {})
    return api.run(spec)


class Served:
    """A browser that runs, and what it answers."""

    def __init__(self, runs, *options: str) -> None:
        command = [sys.executable, "-m", "orchestrator.labels", "small", "--runs", str(runs), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = urllib.parse.urlsplit(self.process.stdout.readline().strip())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.communicate(timeout=240)

    def ask(self, path, headers=None):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=240)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def json(self, path, status=200):
        found, _, body = self.ask(path)
        assert found == status, body
        return json.loads(body)

    def measures(self, key, other=""):
        rows, of = [], 1
        while len(rows) < of:
            answer = self.json(f"/api/measures/{key}?since={len(rows)}{other}")
            assert answer["failure"] is None
            rows += answer["rows"]
            of = answer["of"]
        return rows


@pytest.fixture(scope="module")
def served(found):
    with Served(found.workspace.runs) as served:
        yield served


@pytest.fixture(scope="module")
def sets(served):
    """The label sets, best first."""
    return served.json("/api/sweep")["configurations"]


def ids_of(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def iou(labels, mask):
    """By counting pixels one class after the other."""
    seen = mask != IGNORE
    found = {}
    for index in sorted({*labels[seen].tolist(), *mask[seen].tolist()}):
        ours, theirs = (labels == index) & seen, (mask == index) & seen
        found[str(index)] = (ours & theirs).sum() / (ours | theirs).sum()
    return found


def test_label_sets_are_those_of_the_ranking(sets, found):
    table = found.table()
    assert [one["rank"] for one in sets] == [1, 2, 3, 4]
    assert [one["miou"] for one in sets] == pytest.approx(list(table["pseudo/miou"]))
    assert {one["title"] for one in sets} == {
        f"layers {layers}, refiner {refiner}" for layers in ("none", "all") for refiner in ("none", "par")
    }


def test_labels_made_anew_as_they_were_made_are_the_stored_ones(served, sets, found):
    for rank, one in enumerate(sets, start=1):
        stored = dict(found.labels(rank))
        assert served.json(f"/api/images/{one['key']}")["ids"] == sorted(stored)
        for image_id, labels in stored.items():
            layers = ",".join(map(str, one["layers"]))
            made = served.json(f"/api/relabel/{one['key']}/{image_id}?threshold={one['threshold']}&layers={layers}")
            np.testing.assert_array_equal(ids_of(base64.b64decode(made["png"])), labels)
            status, _, png = served.ask(f"/label/{one['key']}/{image_id}")
            assert status == 200
            np.testing.assert_array_equal(ids_of(png), labels)


def test_another_threshold_gives_other_labels(served, sets):
    key = sets[0]["key"]
    image_id = served.json(f"/api/images/{key}")["ids"][0]
    shares = []
    for threshold in (0.0, 0.5, 0.99):
        made = served.json(f"/api/relabel/{key}/{image_id}?threshold={threshold}&layers=0,2")
        shares.append((ids_of(base64.b64decode(made["png"])) > 0).mean())
    assert shares[0] > shares[1] > shares[2]


def test_measures_are_those_of_the_labels(served, sets, found):
    (first, second), names = sets[:2], ("rank", "seed")
    assert all(name in first for name in names)
    rows, others = dict(found.labels(1)), dict(found.labels(2))
    measured, differing = served.measures(first["key"]), served.measures(first["key"], f"&other={second['key']}")
    assert len(measured) == len(differing) == IMAGES
    for position, (image_id, labels) in enumerate(rows.items()):
        seen = found.image(image_id)
        ious = iou(labels, seen.truth)
        assert measured[position][0] == pytest.approx(np.mean(list(ious.values())), abs=1e-4)
        assert served.json(f"/api/image/{first['key']}/{image_id}")["agreement"]["classes"] == pytest.approx(
            ious, abs=1e-4
        )
        strongest = np.max(list(seen.cam.values()), axis=0)
        near = np.abs(strongest - first["threshold"]) <= UNCERTAIN
        assert measured[position][1] == pytest.approx(near.mean(), abs=1e-4)
        assert differing[position][0] == pytest.approx((labels != others[image_id]).mean(), abs=1e-4)


def test_what_was_measured_is_kept_and_made_anew_where_it_is_damaged(served, sets, found):
    key = sets[0]["key"]
    rows = served.measures(key)
    (file,) = found.workspace.folder.glob(f"browser/{key}.json")
    assert json.loads(file.read_text())["rows"] == rows
    for content in ("{", '{"ids": [], "rows": []}', json.dumps({"ids": ["other"], "rows": [[0.1, 0.2]]})):
        file.write_text(content)
        sweep = BrowsedSweep(found.workspace)
        measures = sweep.measures(key, None)
        while not measures.done:
            pass
        assert measures.rows == rows


def test_pictures_have_the_size_of_the_image(served, sets):
    key = sets[0]["key"]
    image_id = served.json(f"/api/images/{key}")["ids"][0]
    present = served.json(f"/api/image/{key}/{image_id}")["present"][0]
    for address in ("photo", "truth", "label", "thumbnail", f"cam?layers=0,1&class={present}"):
        kind, _, query = address.partition("?")
        status, headers, content = served.ask(f"/{kind}/{key}/{image_id}?{query}")
        assert status == 200
        assert headers["content-type"].startswith("image/")
        assert Image.open(io.BytesIO(content)).size == (SIDE, SIDE)


@pytest.mark.parametrize(
    "path",
    [
        "/label/KEY/nothing",
        "/label/KEY/..%2f..%2f..%2fetc%2fpasswd",
        "/label/KEY/../../../../etc/passwd",
        "/label/pseudo_label-0123456789abcdef/ID",
        "/label/train_cam-0123456789abcdef/ID",
        "/label/..%2f..%2fx/ID",
        "/label/KEY/ID%00",
        "/page/..%2fserver.py",
        "/page/server.py",
        "/api/relabel/KEY/ID",
        "/api/relabel/KEY/ID?threshold=nan",
        "/api/relabel/KEY/ID?threshold=-1",
        "/api/relabel/KEY/ID?threshold=0.3&layers=7",
        "/api/relabel/KEY/ID?threshold=0.3&layers=-1",
        "/api/relabel/KEY/ID?threshold=0.3&layers=a",
        "/cam/KEY/ID?class=99",
        "/cam/KEY/ID",
        "/api/measures/KEY?since=x",
        "/api/measures/KEY?other=nothing",
        "/nothing",
        "/" + "a" * 5000,
    ],
)
def test_what_is_not_there_is_refused(served, sets, path):
    key = sets[0]["key"]
    image_id = served.json(f"/api/images/{key}")["ids"][0]
    status, headers, body = served.ask(path.replace("KEY", key).replace("ID", image_id))
    assert 400 <= status < 500
    assert json.loads(body)["error"]
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.0.1", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_is_refused(served, host):
    status, _, body = served.ask("/api/sweep", {"Host": host})
    assert status in (400, 403)
    assert b"configurations" not in body


def test_on_another_address_a_token_is_needed(found):
    with Served(found.workspace.runs, "--host", "0.0.0.0") as served:
        token = urllib.parse.parse_qs(served.address.query)["token"][0]
        for path, headers in (
            ("/", {}),
            ("/api/sweep", {}),
            ("/?token=wrong", {}),
            ("/api/sweep", {"Cookie": f"aream_labels_{served.address.port}=wrong"}),
            ("/api/sweep", {"Cookie": f"aream_labels_{served.address.port}="}),
        ):
            assert served.ask(path, headers)[0] == 401
        status, headers, _ = served.ask(f"/?token={token}")
        assert status == 303
        cookie = headers["set-cookie"]
        assert re.search("httponly", cookie, re.IGNORECASE)
        assert served.ask("/api/sweep", {"Cookie": cookie.partition(";")[0], "Host": "gpu-1:5050"})[0] == 200
        with Served(found.workspace.runs, "--host", "0.0.0.0") as other:  # a web browser keeps the last one of a name
            other_token = urllib.parse.parse_qs(other.address.query)["token"][0]
            other_cookie = other.ask(f"/?token={other_token}")[1]["set-cookie"]
        assert cookie.partition("=")[0] != other_cookie.partition("=")[0]


def test_a_sweep_that_runs_shows_what_is_stored(found, sets, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(found.workspace.runs, runs)
    (runs / "small" / "summary.json").unlink()
    sweep = BrowsedSweep(locate("small", str(runs)))
    shown = sweep.describe()["configurations"]
    assert {one["key"] for one in shown} == {one["key"] for one in sets}
    assert [one["miou"] for one in shown] == sorted((one["miou"] for one in sets), reverse=True)
    assert all(one["rank"] is None for one in shown)


def test_labels_that_the_last_ranking_does_not_name_follow_it_without_a_rank(found, sets, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(found.workspace.runs, runs)
    file = runs / "small" / "summary.json"
    content = json.loads(file.read_text())
    content["ranking"] = content["ranking"][1:3]
    file.write_text(json.dumps(content))
    shown = BrowsedSweep(locate("small", str(runs))).describe()["configurations"]
    keys = [one["key"] for one in sets]
    assert [(one["key"], one["rank"]) for one in shown] == list(
        zip([*keys[1:3], keys[0], keys[3]], [1, 2, None, None], strict=True)
    )


def test_wrong_commands_are_refused_in_a_line(found):
    runs = ("--runs", str(found.workspace.runs))
    with Served(found.workspace.runs) as served:
        taken = str(served.address.port)
        for words, said in (
            (["other", *runs], "no sweep 'other'"),
            (["small", *runs, "--port", taken], f"--port {taken}: cannot listen"),
            (["small", *runs, "--port", "70000"], "need a number in 0..65535"),
            (["small", *runs, "--host", "no.such.host.example"], "--host: given 'no.such.host.example'"),
        ):
            command = [sys.executable, "-m", "orchestrator.labels", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 2, done
            assert said in done.stderr
            assert "Traceback" not in done.stderr
