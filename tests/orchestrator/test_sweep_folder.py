"""Starting a sweep over: what it held is dropped, what belongs to others stays."""

from __future__ import annotations

import pytest
from test_stores import fill, record

from aream.errors import ArtifactCorrupt
from orchestrator.plan import Planner
from orchestrator.sweep_folder import forget, sweep_id
from orchestrator.workplace import Workplace
from workers.artifacts.holds import Hold, all_holds
from workers.checkpoint import checkpoint_name

PROPOSED, FOREIGN = "train_cam-0123456789abcdef", "train_cam-fedcba9876543210"
OUT_OF_REACH = "where: ['method.alpha_low < method.alpha_high', 'method.alpha_low > 0.3', 'method.alpha_low < 0.4']\n"


@pytest.fixture
def sweep(search, tmp_path):
    """A search whose corners meet no constraint, so nothing but the store tells what it ran."""
    place = Workplace(store_uri=None, runs=tmp_path / "runs", name="swept")
    store = place.store()
    for key in (PROPOSED, FOREIGN):
        store.put(key, fill(store.staging(), key), record(key))
        store.storage.write(checkpoint_name(key), b"a state")
    with Hold(store.storage, sweep_id(place), "swept") as hold:
        hold.add([PROPOSED])
    (place.folder / "lock").touch()
    (place.folder / "logs").mkdir()
    return Planner(search(where=OUT_OF_REACH).study.record.space.spec, {}), place


def test_a_search_started_over_drops_what_it_proposed(sweep):
    planner, place = sweep
    forget(planner, place)
    store = place.store()
    assert set(store.keys()) == {FOREIGN}
    assert [info.name for info in store.storage.list("checkpoints/")] == [checkpoint_name(FOREIGN)]
    assert not list(all_holds(store.storage))
    assert [child.name for child in place.folder.iterdir()] == ["lock"]


def test_a_list_that_cannot_be_read_is_named(sweep):
    planner, place = sweep
    held = f"sweeps/{sweep_id(place)}.json"
    place.store().storage.write(held, b"[")
    with pytest.raises(ArtifactCorrupt, match=held):
        forget(planner, place)
    assert set(place.store().keys()) == {PROPOSED, FOREIGN}
