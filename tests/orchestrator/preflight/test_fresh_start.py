"""``--fresh``: all is computed anew, and nothing that anybody else names or owns is deleted."""

from __future__ import annotations

import pytest
from artifact_stores import fill, record

from aream.errors import ArtifactCorrupt, DamagedFile
from orchestrator.plan.planner import Planner
from orchestrator.preflight.fresh_start import begin_anew, computed, go_on, replaced
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.workspace import FRESH_FILE, Workspace
from workers.artifacts.collection import collect
from workers.artifacts.holds import Hold, all_holds
from workers.artifacts.leases import Leases
from workers.checkpoint import checkpoint_name

PROPOSED, FOREIGN, SHARED, RUNNING = (f"train_cam-{number * 16}" for number in "0123")
OUT_OF_REACH = "where: ['method.alpha_low < method.alpha_high', 'method.alpha_low > 0.3', 'method.alpha_low < 0.4']\n"


@pytest.fixture
def sweep(search, tmp_path):
    """A search whose corners meet no constraint, so nothing but the store tells what it ran."""
    place = Workspace(store_uri=None, runs=tmp_path / "runs", name="swept")
    store = place.store()
    for key in (PROPOSED, FOREIGN, SHARED, RUNNING):
        store.put(key, fill(store.staging(), key), record(key))
        store.storage.write(checkpoint_name(key), b"a state")
    with Hold(store.storage, sweep_id(place), "swept") as hold:
        hold.add([PROPOSED, SHARED, RUNNING])
    with Hold(store.storage, "0th3r", "other") as hold:
        hold.add([FOREIGN, SHARED])
    return Planner(search(where=OUT_OF_REACH).study.record.space.spec, {}), place


def checkpoints(place) -> set[str]:
    return {info.name for info in place.store().storage.list("checkpoints/")}


def test_a_sweep_started_over_takes_nothing_from_the_store(sweep):
    planner, place = sweep
    fresh = begin_anew(planner, place)
    assert set(place.store().keys()) == {PROPOSED, FOREIGN, SHARED, RUNNING}
    for key in (PROPOSED, FOREIGN, SHARED, RUNNING):
        place.store().verify(key)
        assert not fresh.store().has(key)
    assert go_on(place) == fresh  # also after a kill


def test_only_checkpoints_that_nobody_else_names_or_computes_go(sweep):
    planner, place = sweep
    with Leases(place.store().storage).take(RUNNING):
        begin_anew(planner, place)
    assert checkpoints(place) == {checkpoint_name(key) for key in (FOREIGN, SHARED, RUNNING)}


def test_what_is_computed_anew_takes_the_place_of_the_old(sweep, tmp_path):
    planner, place = sweep
    fresh = begin_anew(planner, place).store()
    new = fresh.put(SHARED, fill(fresh.staging(), "new"), record(SHARED, seconds=7.0))
    again = fresh.put(SHARED, fill(fresh.staging(), "newer"), record(SHARED, seconds=9.0))
    assert again == new == fresh.record(SHARED) == place.store().record(SHARED)
    assert (place.store().get(SHARED) / "labels" / "a.png").read_text() == "new"


def test_the_hold_of_the_earlier_run_ends_when_the_new_one_is_there(sweep):
    planner, place = sweep
    earlier = sweep_id(place)
    begin_anew(planner, place)
    assert {hold.sweep_id for hold in all_holds(place.store().storage)} == {earlier, "0th3r"}
    begin_anew(planner, place)  # the run before ended before it named anything
    assert replaced(place) == (earlier,)
    storage, new = place.store().storage, sweep_id(place)
    with Hold(storage, new, "swept", [PROPOSED], replaced(place)):
        assert {hold.sweep_id: set(hold.keys) for hold in all_holds(storage)} == {
            new: {PROPOSED},
            "0th3r": {FOREIGN, SHARED},
        }
    list(collect(place.store(), 0.0, dry_run=False, now=lambda: 1e12))
    assert set(place.store().keys()) == {PROPOSED, FOREIGN, SHARED}


def test_once_all_is_computed_everything_counts_again(sweep):
    planner, place = sweep
    begin_anew(planner, place)
    computed(place)
    assert go_on(place) == place


def test_only_files_that_this_project_writes_go(sweep, tmp_path):
    planner, place = sweep
    own = ("state.json", "spent.json.damaged", "report.html", "logs/sweep.log", "figures/alphas.png",
           "tracking/mlflow/offset", "tune/tuner.pkl", "tune/run/result.json")  # fmt: skip
    foreign = ("thesis.tex", "figures/paper.svg", "tracking/notes.md", "logs/other/sweep.log", "data/report.html")
    for name in (*own, *foreign):
        (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / name).write_text("x")
    (tmp_path / "elsewhere.json").write_text("x")
    (place.folder / "summary.json").symlink_to(tmp_path / "elsewhere.json")
    begin_anew(planner, place)
    left = {str(path.relative_to(place.folder)) for path in place.folder.rglob("*") if not path.is_dir()}
    assert left == {*foreign, FRESH_FILE}
    assert (tmp_path / "elsewhere.json").exists()


@pytest.mark.parametrize("name", ["artifacts", "cache", "mlflow-artifacts", "a_users_folder"])
def test_a_folder_in_which_no_sweep_ran_loses_nothing(sweep, name):
    planner, place = sweep
    place = Workspace(store_uri=None, runs=place.runs, name=name)
    for file in ("report.html", "state.json", "tune/tuner.pkl"):
        (place.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (place.folder / file).write_text("x")
    before = {path for path in place.runs.rglob("*") if path.is_file()}
    begin_anew(planner, place)
    assert {path for path in place.runs.rglob("*") if path.is_file()} == before | {place.folder / FRESH_FILE}


def test_a_kill_while_the_folder_is_cleared_is_made_up_for(sweep, monkeypatch):
    planner, place = sweep
    (place.folder / "stopped.json").write_text("[]")
    monkeypatch.setattr("orchestrator.preflight.fresh_start._own_files", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        begin_anew(planner, place)
    monkeypatch.undo()
    assert (place.folder / "stopped.json").exists()
    assert not go_on(place).store().has(PROPOSED)
    assert not (place.folder / "stopped.json").exists()


def test_lists_that_cannot_be_read_are_named_before_anything_goes(sweep):
    planner, place = sweep
    (place.folder / "state.json").write_text("x")
    held = f"sweeps/{sweep_id(place)}.json"
    place.store().storage.write(held, b"[")
    with pytest.raises(ArtifactCorrupt, match=held):
        begin_anew(planner, place)
    assert len(checkpoints(place)) == 4
    assert (place.folder / "state.json").exists()
    (place.folder / FRESH_FILE).write_text("")
    with pytest.raises(DamagedFile, match="--fresh again"):
        go_on(place)
    place.store().storage.delete(held)
    begin_anew(planner, place)
    assert not go_on(place).store().has(PROPOSED)


def test_a_collection_after_a_fresh_run_takes_what_it_replaced_and_nothing_that_is_named(sweep):
    planner, place = sweep
    fresh = begin_anew(planner, place).store()

    def blobs(key):
        store = place.store()
        return store.blobs.listed(store.record(key).index, key)

    old, foreign = blobs(SHARED) - blobs(FOREIGN), blobs(FOREIGN)
    fresh.put(SHARED, fill(fresh.staging(), "new"), record(SHARED, seconds=7.0))
    fresh.put(PROPOSED, fill(fresh.staging(), PROPOSED), record(PROPOSED, seconds=7.0))  # the same bytes
    with Hold(fresh.storage, sweep_id(place), "swept", [PROPOSED, SHARED], replaced(place)):
        pass
    computed(place)
    list(collect(place.store(), 0.0, dry_run=False, now=lambda: 1e12))
    assert set(place.store().keys()) == {PROPOSED, FOREIGN, SHARED}
    for key in (PROPOSED, FOREIGN, SHARED):
        place.store().verify(key)
    assert (place.store().get(SHARED) / "labels" / "a.png").read_text() == "new"
    left = {info.name for info in place.store().storage.list("blobs/")}
    assert left == blobs(PROPOSED) | blobs(FOREIGN) | blobs(SHARED)
    assert foreign <= left
    assert old - left
