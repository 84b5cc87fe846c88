"""Where a search is kept: what goes wrong is said in one line, before Ray, and never with a password."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import dead_port, free_port
from searching import end
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from aream.errors import AreamError
from orchestrator import sweep
from orchestrator.console import command as entry
from orchestrator.plan.planner import Planner
from orchestrator.search.record import SearchRecord, known_points
from orchestrator.search.searchers import SearchedPoints
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError
from workers.processes.masking import masked

SECRET = "s3cr:t/w@rd"
SWEEP = """
name: swept
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 4, warmup_epochs: 2, lr_warmup_epochs: 0, image_size: 32}}
axes: {{train.lr: {{loguniform: [1.0e-5, 1.0e-2]}}}}
search: {{trials: {trials}, storage: {storage}}}
"""
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def write(tmp_path):
    def write(storage: str, trials: int = 3) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP.format(runs=tmp_path / "runs", storage=json.dumps(storage), trials=trials))
        return path

    return write


def searcher(path: Path, folder: Path) -> SearchedPoints:
    return SearchedPoints(Planner(load_spec(path), {}), folder)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:pw@host:5432/db", "postgresql://user:***@host:5432/db"),
        (f"postgresql://user:{SECRET}@host/db", "postgresql://user:***@host/db"),
        ("postgresql://host/db?user=a&password=pw", "postgresql://host/db?user=a&password=***"),
        ("postgresql://host/db?sslpassword=pw&x=1", "postgresql://host/db?sslpassword=***&x=1"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("two postgresql://a:b@c/d and http://e:f@g", "two postgresql://a:***@c/d and http://e:***@g"),
    ],
)
def test_only_the_password_is_masked(url, shown):
    assert masked(url) == shown


@given(st.from_regex(r"[^\s]{6,20}", fullmatch=True))
def test_no_password_survives(password):
    assert password not in masked(f"cannot reach postgresql://someone:{password}@host/database at all")


@pytest.mark.parametrize("storage", [f"mysql://user:{SECRET}@host/db", "sqlite://memory", "search.db"])
def test_another_kind_of_storage_is_refused_with_its_line(write, storage):
    path = write(storage)
    with pytest.raises(SpecError, match=r"sweep.yaml:8: search.storage: need null or a URL") as caught:
        load_spec(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        f"search.storage=mysql://user:{SECRET}@host/db",
        f"search=postgresql://user:{SECRET}@host/db",
        f"search.storage=[postgresql://user:{SECRET}@host/db]",
        f"search={{trials: 3, storge: 'postgresql://user:{SECRET}@host/db'}}",
        f"serch.storage=postgresql://user:{SECRET}@host/db",
    ],
)
def test_a_mistake_in_an_override_does_not_show_its_password(write, override):
    with pytest.raises(SpecError) as caught:
        load_spec(write("sqlite:///x.db"), [override])
    assert SECRET not in str(caught.value)


def test_what_is_kept_of_a_sweep_holds_no_password(write):
    spec = load_spec(write(f"postgresql://user:{SECRET}@host/db"))
    assert SECRET not in json.dumps(spec.resolved())
    assert spec.resolved()["search"]["storage"] == "postgresql://user:***@host/db"


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://user:s3cr.t@127.0.0.1:{port}/db",
        "postgresql://user:s3cr.t@no.such.host.invalid/db",
        "postgresql://user:s3cr.t@127.0.0.1:notaport/db",
        "sqlite:////no/such/folder/x.db",
    ],
)
def test_a_storage_that_is_away_is_one_clear_line_before_ray(write, capsys, tmp_path, storage):
    pytest.importorskip("pg8000")
    started = "ray" in sys.modules
    with dead_port() as port:
        assert sweep.main([str(write(storage.format(port=port)))]) == entry.REFUSED
    said = capsys.readouterr().err
    assert said.startswith("search.storage: ")
    assert "cannot be used" in said
    assert said.count("\n") == 1
    assert ("ray" in sys.modules) is started
    kept = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not any(b"s3cr.t" in content for content in [said.encode(), *kept])


def test_a_missing_driver_is_named_with_what_to_install(write, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without_pg8000(name, *arguments, **options):
        if name.split(".")[0] == "pg8000":
            raise ModuleNotFoundError("No module named 'pg8000'", name="pg8000")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pg8000)
    for name in [name for name in sys.modules if name.split(".")[0] == "pg8000"]:
        monkeypatch.delitem(sys.modules, name)
    planner = Planner(load_spec(write("postgresql://host/db")), {})
    with pytest.raises(AreamError, match=r"needs pg8000: pip install 'aream-sweep\[postgres\]'"):
        SearchRecord(planner, tmp_path / "run")


def test_sqlite_is_continued_from_another_folder(write, tmp_path):
    storage = f"sqlite:///{tmp_path}/search.db"
    continued_elsewhere(write, tmp_path, storage)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["in the sweep's folder", "in sqlite"])
def test_what_a_search_would_start_from_is_known_without_touching_it(write, tmp_path, kept):
    folder, database = tmp_path / "run", tmp_path / "search.db"
    path = write(f"sqlite:///{database}")
    if kept == "in the sweep's folder":
        path.write_text(path.read_text().replace(f', storage: "sqlite:///{database}"', ""))
    planner = Planner(load_spec(path), {})
    assert known_points(planner, folder) == []
    assert not folder.exists()
    assert not database.exists()
    first = searcher(path, folder)
    points = [first.suggest(f"t{number}") for number in range(2)]
    end(first, "t1", {"pseudo/miou": 0.5})
    files = [file for file in (folder / "search.log", database) if file.exists()]
    (file,) = files
    before = file.read_bytes()
    known = [(point.values, point.outcome and point.outcome.values) for point in known_points(planner, folder)]
    assert known == [(points[0]["values"], None), (points[1]["values"], (0.5,))]
    wider = path.read_text().replace("1.0e-5, 1.0e-2", "1.0e-5, 2.0e-2")
    path.write_text(wider)  # another study, which starts from this one
    again = known_points(Planner(load_spec(path), {}), folder)
    assert [(point.values, point.outcome and point.outcome.values) for point in again] == known
    assert file.read_bytes() == before


def continued_elsewhere(write, tmp_path, storage):
    first = searcher(write(storage), tmp_path / "one")
    points = [first.suggest(f"t{number}") for number in range(3)]
    for number in (0, 2):
        first.on_trial_complete(f"t{number}", {"pseudo/miou": number / 4, "complete": 1.0})
    second = searcher(write(storage, trials=4), tmp_path / "two")
    again = [second.suggest(f"t{number}") for number in range(4)]
    assert [point["values"] for point in again[:3]] == [points[index]["values"] for index in (1, 0, 2)]
    assert [point["replayed"] for point in again] == [False, True, True, False]
    for number in range(4):
        second.on_trial_complete(f"t{number}", {"pseudo/miou": 0.75, "complete": 1.0})
    assert second.suggest("end") == "FINISHED"
    study = second.study.record.study
    assert [trial.value for trial in study.trials] == [0.0, 0.75, 0.5, 0.75]
    assert study.best_trial.number in (1, 3)


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL server on loopback whose user has a password; yields the URL of an empty database."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql")
    pytest.importorskip("pg8000")
    folder, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port()
    as_root = os.geteuid() == 0
    if as_root:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")

    def run(*command):
        user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid} if as_root else {}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, **user)
        assert done.returncode == 0, done.stderr

    (folder / "password").write_text(SECRET)
    (folder / "password").chmod(0o644)
    binary, data = BINARIES[-1], folder / "data"
    run(binary / "initdb", "-D", data, "-A", "scram-sha-256", "-U", "sweeper", f"--pwfile={folder / 'password'}")
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(binary / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
    try:
        yield f"postgresql://sweeper:{{password}}@127.0.0.1:{port}/postgres"
    finally:
        run(binary / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.integration
def test_postgresql_is_continued_from_another_folder(write, tmp_path, postgres):
    continued_elsewhere(write, tmp_path, postgres.format(password="s3cr%3At%2Fw%40rd"))


@pytest.mark.integration
def test_a_plan_makes_no_tables_in_a_database(write, tmp_path, postgres):
    storage = postgres.format(password="s3cr%3At%2Fw%40rd")
    scheme, _, rest = storage.partition("://")
    engine = create_engine(f"{scheme}+pg8000://{rest}", poolclass=NullPool)
    for table in inspect(engine).get_table_names():  # of the tests before
        with engine.begin() as connection:
            connection.execute(text(f'DROP TABLE "{table}" CASCADE'))
    planner = Planner(load_spec(write(storage)), {})
    assert known_points(planner, tmp_path / "run") == []
    assert inspect(engine).get_table_names() == []
    searcher(write(storage), tmp_path / "run").suggest("t0")
    assert len(known_points(planner, tmp_path / "run")) == 1


def test_a_plan_makes_no_tables_in_a_file_of_others(write, tmp_path):
    database = tmp_path / "others.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = database.read_bytes()
    planner = Planner(load_spec(write(f"sqlite:///{database}")), {})
    assert known_points(planner, tmp_path / "run") == []
    assert database.read_bytes() == before


@pytest.mark.integration
def test_a_wrong_password_is_refused_and_not_shown(write, tmp_path, postgres):
    with pytest.raises(AreamError, match="password authentication failed") as caught:
        searcher(write(postgres.format(password="wr0ng-one")), tmp_path / "run")
    assert "wr0ng-one" not in str(caught.value)


@pytest.mark.integration
def test_searches_of_several_sweeps_share_a_database(write, tmp_path, postgres):
    storage = postgres.format(password="s3cr%3At%2Fw%40rd")
    path = write(storage)
    path.write_text(path.read_text().replace("name: swept", "name: swept-more"))
    first = searcher(path, tmp_path / "one")
    path.write_text(path.read_text().replace("name: swept-more", "name: swept-more-yet"))
    second = searcher(path, tmp_path / "two")
    names = {one.study.record.study.study_name for one in (first, second)}
    assert len(names) == 2
    second.suggest("a")
    assert [len(one.study.record.study.trials) for one in (first, second)] == [0, 1]
    assert isinstance(second.study.record.storage, optuna.storages.RDBStorage)
