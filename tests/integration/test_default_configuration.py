"""The default configuration on real images: a sweep file that names the data and a length, and nothing else."""

from __future__ import annotations

import subprocess

import pytest

import sweeps

pytestmark = pytest.mark.slow
TRAIN, VAL = 12, 6


def ids(root, name: str, most: int) -> str:
    """The first images of a list."""
    return "".join(f"{one}\n" for one in (root / "ImageSets/Segmentation" / name).read_text().split()[:most])


def test_a_sweep_that_names_only_data_and_epochs_runs_to_its_end(tmp_path, data_root):
    root = data_root / "voc12_animals"
    lists = {"train": ids(root, "train.txt", TRAIN), "val": ids(root, "val.txt", VAL)}
    for split, text in lists.items():
        (tmp_path / f"{split}.txt").write_text(text)
    sweep = tmp_path / "defaults.yaml"
    sweep.write_text(
        "name: defaults\n"
        f"data: {{name: voc2012, root: '{root}', train_list: train.txt, val_list: val.txt}}\n"
        "train: {epochs: 2}\n"
    )
    done = subprocess.run(
        sweeps.command(sweep), cwd=sweeps.ROOT, env=sweeps.environment(), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (row,) = sweeps.ranking(tmp_path)
    assert 0 < row["metrics"]["pseudo/miou"] < 1
