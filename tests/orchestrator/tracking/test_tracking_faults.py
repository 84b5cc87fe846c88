"""What MLflow will never take is told before a training; what waits is neither lost nor counted as delivered."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from answers import answering, untrusted
from ports import dead_port

from aream.errors import ConfigError
from orchestrator.preflight.prepare import tracking_backend
from orchestrator.spec.reader import load_spec
from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.tracking.backends._mlflow_locations import follow_move, location_now
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.mlflow_uri import artifact_location, default_uri, mlflow_ui, resolved_uri
from orchestrator.tracking.tracker import Tracker
from orchestrator.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::Warning")
PATIENCE_S = 300
NASTY = "a b%2F#?c'd\" :e"


def client(uri: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow.MlflowClient(uri)


def record(uri: str, spool: Path, experiment: str = "exp", run: str = "sweep") -> Tracker:
    tracker = Tracker(MlflowBackend(uri, experiment), "id", spool)
    tracker.start_run(run, name="n")
    tracker.log_content(run, "note.txt", b"note", "folder")
    tracker.end_run(run, "FINISHED")
    return tracker


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A database with one recorded run, in a folder with every sign that URIs or SQL give a meaning, and made there."""
    folder = tmp_path_factory.mktemp("made") / NASTY
    folder.mkdir()
    with contextlib.chdir(folder):
        assert record(default_uri(folder), folder / "spool").close(PATIENCE_S) == 0
    return folder / "mlflow.db"


@pytest.fixture
def database(made, tmp_path) -> Path:
    return Path(shutil.copy(made, tmp_path / "mlflow.db"))


@pytest.mark.slow
def test_a_folder_with_any_sign_holds_record_and_files(made):
    uri = default_uri(made.parent)
    (run,) = client(uri).search_runs([client(uri).get_experiment_by_name("exp").experiment_id])
    assert (run.data.tags["aream.run"], run.info.status) == ("sweep", "FINISHED")
    (note,) = (made.parent / "mlflow-artifacts").rglob("note.txt")
    assert note.read_bytes() == b"note"


def notes(uri: str, into: Path) -> dict[str, bytes]:
    """Run -> the file that MLflow gives for it."""
    found = client(uri)
    runs = found.search_runs([found.get_experiment_by_name("exp").experiment_id])
    files = {run.data.tags["aream.run"]: found.list_artifacts(run.info.run_id, "folder") for run in runs}
    assert [[file.path for file in each] for each in files.values()] == [["folder/note.txt"]] * len(runs)
    told = {run.data.tags["aream.run"]: run.info.run_id for run in runs}
    return {
        run: Path(found.download_artifacts(own, "folder/note.txt", str(into))).read_bytes() for run, own in told.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", NASTY])
def test_a_folder_that_moves_keeps_record_and_files(made, tmp_path, name):
    before, after = tmp_path / "before", tmp_path / name
    shutil.copytree(made.parent, before)
    follow_move(default_uri(before))
    before.rename(after)
    uri = default_uri(after)
    follow_move(uri)
    assert notes(uri, tmp_path) == {"sweep": b"note"}
    assert record(uri, after / "spool2", run="trial/1").close(PATIENCE_S) == 0  # the sweep goes on there
    assert notes(uri, tmp_path) == {"sweep": b"note", "trial/1": b"note"}
    assert len(list(after.rglob("note.txt"))) == 2
    assert not before.exists()


@pytest.mark.slow
def test_a_sweep_goes_on_in_a_copy_and_leaves_the_first_alone(made, tmp_path):
    shutil.copytree(made.parent, tmp_path / "copy")
    content, files = made.read_bytes(), sorted(made.parent.rglob("*"))
    uri = default_uri(tmp_path / "copy")
    assert record(uri, tmp_path / "copy" / "spool2", run="trial/1").close(PATIENCE_S) == 0
    shutil.copytree(tmp_path / "copy", tmp_path / "another")
    shutil.rmtree(tmp_path / "copy" / "mlflow-artifacts")
    follow_move(default_uri(tmp_path / "another"))
    assert notes(default_uri(tmp_path / "another"), tmp_path) == {"sweep": b"note", "trial/1": b"note"}
    assert (made.read_bytes(), sorted(made.parent.rglob("*"))) == (content, files)


@pytest.mark.slow
def test_while_somebody_looks_through_another_mount_files_stay_in_their_folder(made, tmp_path):
    """As a container and its host do: the locations are told by who came last."""
    folder, other = tmp_path / "folder", tmp_path / "other"
    shutil.copytree(made.parent, folder)
    other.symlink_to(folder)
    uri = default_uri(folder)
    tracker = record(uri, folder / "spool2", run="trial/1")
    assert tracker.pages(PATIENCE_S).runs.keys() == {"sweep", "trial/1"}
    follow_move(default_uri(other))
    other.unlink()
    other.write_text("not there")
    tracker.log_content("trial/1", "more.txt", b"more")
    assert tracker.close(PATIENCE_S) == 0
    assert len(list(folder.rglob("more.txt"))) == 1


def test_a_database_without_its_files_is_left_as_it_is(database):
    before = database.read_bytes()
    follow_move(f"sqlite:///{database}")
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "location",
    [
        "", "s3://b/mlflow-artifacts/exp", "mlflow-artifacts:/exp", "file:///x/mlflow-artifacts/", "file:///x/exp",
        "file:///x/mlflow-artifacts/../out", "file:///x/mlflow-artifacts/%2e%2e/out", "file:///x/mlflow-artifacts/away",
    ],
)  # fmt: skip
def test_locations_of_others_stay(location, tmp_path):
    (tmp_path / "mlflow-artifacts" / "exp").mkdir(parents=True)
    assert location_now(default_uri(tmp_path), location) == location
    assert location_now("http://lab:5000", "file:///x/mlflow-artifacts/exp") == "file:///x/mlflow-artifacts/exp"


@pytest.mark.parametrize("content", [b"", b"no database"])
def test_what_is_no_database_is_for_whoever_opens_it(content, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(content)
    follow_move(default_uri(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == content


@pytest.mark.parametrize("name", [NASTY, "x%41", "50% + more", "é", "a:b@c", "-x"])
def test_the_line_to_browse_means_the_file_when_a_shell_reads_it(name, tmp_path):
    runs = tmp_path / name
    runs.mkdir()
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {mlflow_ui(default_uri(runs))}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    assert said[1:3] == ["ui", "--backend-store-uri"]
    assert sqlite_file(said[3]) == runs / "mlflow.db"


def test_relative_and_home_uris_become_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sqlite_file(resolved_uri("sqlite:///mlflow.db", tmp_path)) == tmp_path / "mlflow.db"
    assert sqlite_file(resolved_uri("sqlite:///~/a b/mlflow.db", Path("/x"))) == tmp_path / "a b" / "mlflow.db"
    assert resolved_uri("postgresql://u@h/db", tmp_path) == "postgresql://u@h/db"
    assert resolved_uri("http://mlflow:5000", tmp_path) == "http://mlflow:5000"


@pytest.mark.parametrize("experiment", ["../../out", "/abs", "..", ".", "a/b", "%2e%2e/x", "~x", "", "x" * 300])
def test_no_experiment_leaves_its_folder(experiment, tmp_path):
    location = artifact_location(default_uri(tmp_path), experiment)
    own = location.removeprefix((tmp_path / "mlflow-artifacts").as_uri() + "/")
    assert own
    assert not set(own) & set("/%~")
    assert own.strip(".")
    assert len(own) < 100


@pytest.mark.parametrize(
    "uri",
    [
        "./mlruns", "mlruns", "file:///x/mlruns", "sqlite://", "sqlite:///:memory:", "wrong://", "uc:x",
        "databricks-uc", "http://", "https:///path", "http://[::1", "http://host:0", "http://host:99999", "http://host/?a=b",
        "http://host/#x", "sqlite:////proc/mlflow.db",
    ],
)  # fmt: skip
def test_what_cannot_hold_a_record_is_refused(uri, tmp_path):
    with pytest.raises(ConfigError, match=r"tracking\.uri: .*"):
        MlflowBackend(resolved_uri(uri, tmp_path), "exp").check()
    assert list(tmp_path.iterdir()) == []


def test_a_token_among_the_parameters_of_a_server_is_refused_and_not_shown(tmp_path):
    with pytest.raises(ConfigError, match="without parameters") as caught:
        resolved_uri("http://host/?token=my-own-token", tmp_path)
    assert "my-own-token" not in str(caught.value)


def test_the_variable_is_checked_like_the_key(tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text("name: s\n")
    monkeypatch.chdir(tmp_path)
    spec, place = load_spec(tmp_path / "s.yaml"), Workspace(store_uri=None, runs=tmp_path / "other", name="s")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI: given '\./mlruns'"):
        tracking_backend(spec, place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert sqlite_file(tracking_backend(spec, place).uri) == tmp_path / "mlflow.db"


def test_a_new_database_is_not_made_by_looking(tmp_path):
    MlflowBackend(default_uri(tmp_path / "runs"), "exp").check()
    assert not (tmp_path / "runs" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "words"), [("451aebb31d03", "mlflow db upgrade sqlite:///"), ("ffffffffffff", "another version")]
)
def test_tables_of_another_version_are_refused(database, version, words):
    with contextlib.closing(sqlite3.connect(database)) as changed:
        changed.execute("update alembic_version set version_num = ?", (version,))
        changed.commit()
    with pytest.raises(ConfigError, match=words):
        MlflowBackend(default_uri(database.parent), "exp").check()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    with pytest.raises(ConfigError, match="not a database of MLflow's"):
        MlflowBackend(default_uri(tmp_path), "exp").check()
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        MlflowBackend(resolved_uri("sqlite:///folder.db", tmp_path), "exp").check()


@pytest.mark.slow
def test_a_deleted_experiment_is_refused_with_the_way_back(database):
    uri = default_uri(database.parent)
    MlflowBackend(uri, "exp").check()
    client(uri).delete_experiment(client(uri).get_experiment_by_name("exp").experiment_id)
    with pytest.raises(ConfigError, match="was deleted") as caught:
        MlflowBackend(uri, "exp").check()
    (shown,) = [part for part in str(caught.value).split("`") if "mlflow experiments" in part]
    assignment, command = shlex.split(shown)[0], shlex.split(shown)[1:]
    name, _, value = assignment.partition("=")
    mlflow = [str(Path(sys.executable).with_name("mlflow")), *command[1:]]
    subprocess.run(mlflow, env={name: value, "PATH": "/usr/bin:/bin", "HOME": "/tmp"}, check=True, capture_output=True)
    MlflowBackend(uri, "exp").check()


@pytest.mark.slow
def test_an_experiment_deleted_meanwhile_loses_nothing(database, tmp_path):
    uri = default_uri(database.parent)
    known = client(uri)
    own = known.get_experiment_by_name("exp").experiment_id
    known.delete_experiment(own)
    tracker = record(uri, tmp_path / "spool", run="trial/a")
    left = tracker.close(PATIENCE_S)
    assert left == 3
    assert "mlflow experiments restore" in tracker.permanent
    assert tracker.refused == 0
    known.restore_experiment(own)
    assert Tracker(MlflowBackend(uri, "exp"), "id", tmp_path / "spool").close(PATIENCE_S) == 0
    assert "trial/a" in {run.data.tags["aream.run"] for run in known.search_runs([own])}


@pytest.mark.slow
def test_what_mlflow_refuses_is_kept_and_told(database, tmp_path):
    uri = default_uri(database.parent)
    tracker = Tracker(MlflowBackend(uri, "exp"), "id", tmp_path / "spool")
    tracker.log_metrics("never/started", {"val/map": 1.0}, 1)
    tracker.start_run("sweep", name="n")
    tracker.log_metrics("sweep", {"k" * 400: 1.0}, 1)  # longer than a key may be
    assert tracker.close(PATIENCE_S) == 0
    assert tracker.refused == 2
    kept = [json.loads(line) for line in tracker.refused_file.read_text().splitlines()]
    assert [line["event"]["run"] for line in kept] == ["never/started", "sweep"]
    assert all(line["reason"] for line in kept)


OTHER = b"<html>something else</html>"


@pytest.mark.parametrize(("status", "words"), [(404, "no MLflow server"), (401, "USERNAME"), (403, "USERNAME")])
def test_a_server_that_will_never_take_it_is_refused(status, words):
    with answering(status, OTHER) as server, pytest.raises(ConfigError, match=words):
        MlflowBackend(server.url, "exp").check()


def test_a_certificate_that_is_not_trusted_is_named(tmp_path):
    with (
        answering(200, OTHER, untrusted(tmp_path)) as server,
        pytest.raises(ConfigError, match="certificate is not trusted"),
    ):
        MlflowBackend(server.url, "exp").check()


def test_a_server_that_is_away_or_busy_is_only_told():
    with answering(503, OTHER) as busy:
        assert "rows wait on disk" in MlflowBackend(busy.url, "exp").check()
    with dead_port() as port:
        assert "rows wait on disk" in MlflowBackend(f"http://127.0.0.1:{port}", "exp").check()


def test_a_user_without_a_name_can_record(monkeypatch):
    from orchestrator.console.permissions import user_name

    assert user_name(54321) == "user 54321"
