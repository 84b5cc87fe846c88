"""The default configuration on real images: a sweep file that names the data, a length, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import sweeps

pytestmark = pytest.mark.integration
IMAGES = {"train": 6, "val": 4}


def cut(source: Path, root: Path) -> Path:
    """The first images of a dataset in VOC's layout; whole folders are links, as people make them."""
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationClass"):
        (root / name).symlink_to(source / name, target_is_directory=True)
    (root / "cls_labels.npy").write_bytes((source / "cls_labels.npy").read_bytes())
    for split, count in IMAGES.items():
        ids = (source / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()[:count]
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def test_a_sweep_that_names_only_data_and_epochs_runs_to_its_end(tmp_path, data_root):
    root = cut(data_root / "voc12_animals", tmp_path / "VOC2012")
    sweep = tmp_path / "defaults.yaml"
    sweep.write_text(
        f"name: defaults\nruns: {tmp_path}/runs\ndata: {{name: voc2012, root: {root}}}\ntrain: {{epochs: 2}}\n"
    )
    done = subprocess.run(
        sweeps.command(sweep), cwd=tmp_path, env=sweeps.environment(), capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / "runs" / "defaults" / "summary.json").read_text())
    (row,) = summary["ranking"]
    for name in ("val/map", "cam/miou", "pseudo/miou"):
        assert 0 < row["metrics"][name] < 1, name
