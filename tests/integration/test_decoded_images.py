"""A node's decoded images, told by the logs of those who read them: decoded once, whatever becomes of a trial."""

from __future__ import annotations

import re

import pytest
from small_voc import write_voc

import sweeps

pytestmark = pytest.mark.integration
TRAIN, VAL = 12, 4


def counts(logs: str) -> list[tuple[int, int]]:
    """Decoded and read back, of each stage."""
    return [(int(a), int(b)) for a, b in re.findall(r"images: (\d+) decoded, (\d+) read from", logs)]


def test_a_node_decodes_each_image_once_also_where_a_trial_is_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "180")
    root = write_voc(tmp_path / "VOC2012", TRAIN, VAL)
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().split("segmentation:")[0])
    data = f"{{name: voc2012, root: {root}}}"
    sweeps.changed(sweep, data=data, concurrency="1", tracking="{name: none}")
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 1/5")
        sweeps.kill(sweeps.training_process(tmp_path))
        output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    logs = {path.name: path.read_text() for path in (tmp_path / "runs" / "small" / "logs").glob("*.log")}
    (warmup,) = (text for name, text in logs.items() if name.startswith("warmup-"))
    trials = [text for name, text in logs.items() if name.startswith("train_cam-")]
    assert [decoded for decoded, _ in counts(warmup)] == [TRAIN + VAL]
    assert len(trials) == 2
    assert sum(text.count("running train_cam") for text in trials) == 3, "one began a second time"
    for text in trials:
        assert [decoded for decoded, _ in counts(text)] == [0] * len(counts(text))
        assert sum(read for _, read in counts(text)) > TRAIN
