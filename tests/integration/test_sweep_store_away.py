"""A store that goes away while a sweep runs: nothing counts as failed, and the same command goes on."""

from __future__ import annotations

import json

import pytest

import sweeps

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("on_a_cluster")]


@pytest.mark.parametrize("phase", ["shared stage", "trial", "segmentation"])
def test_a_store_that_goes_away_fails_nothing_and_is_gone_on_with(tmp_path, phase):
    """A folder that a file has taken the place of, as where a network file system was unmounted."""
    store = tmp_path / "store"
    sweep = sweeps.changed(sweeps.write_small(tmp_path), store=f"{{uri: {store.as_uri()}}}", limits="{failures: 1}")
    text = sweep.read_text().replace("  warmup_epochs: 1", "  warmup_epochs: 30").replace("  epochs: 5", "  epochs: 60")
    sweep.write_text(text.replace("train: {epochs: 2", "train: {epochs: 30"))
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, f"{phase} running epoch {31 if phase == 'trial' else 3}")
        store.rename(tmp_path / "elsewhere")
        store.write_text("")
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert str(store) in output
    assert "run the same command again" in output
    state = json.loads((tmp_path / "runs" / "small" / "state.json").read_text())
    assert not [task for task in state["tasks"] if task["status"] == "failed"]
    assert state["phase"] == "interrupted"
    store.unlink()
    (tmp_path / "elsewhere").rename(store)
    assert "failed" not in sweeps.run(sweep)
