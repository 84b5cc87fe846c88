"""Two nodes, of which one does not fit: the sweep is refused before a worker is asked for anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_voc import write_image, write_voc

import sweeps

pytestmark = pytest.mark.integration

SWEEP = """
# Does it run there?
name: nodes
runs: {folder}/runs
data: {{name: voc2012, root: {folder}/data/VOC2012}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32, batch_size: 4}}
inference: {{image_size: 32}}
"""


class TwoNodes:
    """The second one's own places are set in its environment."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        write_voc(folder / "data" / "VOC2012")
        write_voc(folder / "other" / "VOC2012")
        self.sweep = folder / "sweep.yaml"
        self.sweep.write_text(SWEEP.format(folder=folder))
        head = {"num_cpus": 1, "include_dashboard": False, "env_vars": self.environment("first")}
        self.cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        self.second: Any = self.cluster.add_node(
            num_cpus=1,
            env_vars={**self.environment("second"), "AREAM_PATH_MAP": f"{folder}/data={folder}/other"},
        )
        self.name = self.second.node_id[:6]

    def environment(self, node: str) -> dict[str, str]:
        return {"AREAM_STAGING_FOLDER": f"{self.folder}/staging-{node}"}

    def check(self, *settings: str) -> tuple[int, str]:
        arguments = [part for setting in settings for part in ("--set", setting)]
        command = ["-m", "orchestrator.node_checks", str(self.sweep), "--address", self.cluster.address, *arguments]
        environment = {**sweeps.environment(), **self.environment("driver")}
        done = subprocess.run(
            [sys.executable, *command], cwd=sweeps.ROOT, env=environment, capture_output=True, text=True, timeout=500
        )
        return done.returncode, done.stdout + done.stderr

    def row(self, text: str) -> dict[str, str]:
        """Cells of the second node by column."""
        lines = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in text.splitlines()]
        (columns,) = [line for line in lines if line[:1] == ["node"]]
        (cells,) = [line for line in lines if line and line[0].endswith(self.name)]
        return dict(zip(columns, cells, strict=True))


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        patch.setenv("PYTHONPATH", str(sweeps.ROOT))
        found = TwoNodes(tmp_path_factory.mktemp("two"))
        try:
            yield found
        finally:
            found.cluster.shutdown()


def test_a_node_with_other_data_is_named(two_nodes):
    image = two_nodes.folder / "other" / "VOC2012" / "JPEGImages" / "2007_000003.jpg"
    before = image.read_bytes()
    write_image(two_nodes.folder / "other" / "VOC2012", "2007_000003", np.random.default_rng(7))
    status, text = two_nodes.check()
    assert status == 2, text
    row = two_nodes.row(text)
    assert {column: cell for column, cell in row.items() if cell != "ok"}.keys() == {"node", "data"}
    assert row["data"] == "FAILS [1]"
    assert f"{two_nodes.name}: data: other content than the driver's" in text
    assert f"{two_nodes.folder}/other/VOC2012" in text
    refused = sweeps.run(two_nodes.sweep, "--address", two_nodes.cluster.address, expect=2)
    assert two_nodes.row(refused) == row
    assert not list(two_nodes.folder.glob("runs/nodes/logs/train_cam*"))
    image.write_bytes(before)
    status, text = two_nodes.check()
    assert status == 0, text
    assert {cell for column, cell in two_nodes.row(text).items() if column != "node"} == {"ok"}


def test_an_archive_is_staged_on_every_node_and_is_the_same_data(two_nodes):
    sweeps.run(two_nodes.sweep, "--address", two_nodes.cluster.address)
    with tarfile.open(two_nodes.folder / "voc.tar", "w") as tar:
        tar.add(two_nodes.folder / "data" / "VOC2012", "VOC2012")
    root = f"data.root=file://{two_nodes.folder}/voc.tar#VOC2012"
    status, text = two_nodes.check(root)
    assert status == 0, text
    items = [list(two_nodes.folder.glob(f"staging-{node}/items/voc.tar-*")) for node in ("driver", "first", "second")]
    assert [len(found) for found in items] == [1, 1, 1]
    assert {found[0].name for found in items} == {items[0][0].name}
    # Where the bytes lie is no part of a key: everything is found in the store.
    planned = subprocess.run(
        [*sweeps.command(two_nodes.sweep, "--plan", "--json", "--set", root)],
        cwd=sweeps.ROOT, env={**sweeps.environment(), **two_nodes.environment("driver")},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    stages = json.loads(planned)["stages"]
    assert {stage["stage"] for stage in stages} == {"train_cam", "infer_cam", "pseudo_label"}
    assert all(stage["stored"] for stage in stages), planned


def test_a_node_that_falls_silent_is_told_within_the_bound(two_nodes):
    """Frozen as it is: no connection is closed, and Ray believes for a minute that it is there."""
    raylet = two_nodes.second.all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    try:
        status, text = two_nodes.check("nodes.answer_seconds=15")
    finally:
        os.kill(raylet, signal.SIGCONT)
    assert status == 2, text
    assert two_nodes.row(text)["answers"].startswith("FAILS")
    assert f"{two_nodes.name}: silent for 15 s" in text
