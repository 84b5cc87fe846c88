"""Somebody's own images, from a look at their folder to a segmenter, without a mask of a train image."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_folder import NAMES, config, names_csv, write_folder

import sweeps
from aream.datasets import folder
from workers.files.labels import write_labels

pytestmark = pytest.mark.integration

SMALL = {
    "backbone": "{name: mctformer_v2, vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}",
    "method": "{name: aream, refiner: {name: none}}",
    "train": "{epochs: 3, warmup_epochs: 1, batch_size: 4, lr: 1e-3, lr_warmup_epochs: 0, image_size: 32}",
    "inference": "{image_size: 32}",
    "axes": "{inference.layers: [none, all]}",
    "resources": "{trial: {cpu: 1, gpu: 0}}",
    "tracking": "none",
    "segmentation": "{model: {encoder: resnet10t, output_stride: null, level: 1, rates: [1], channels: 16}, "
    "train: {epochs: 1, batch_size: 4, lr: 0.01, crop: 32}, evaluate: {scales: [1.0]}}",
}
"""A network of a moment in the place of the template's."""


def command(place: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"orchestrator.{words[0]}", *words[1:]],
        cwd=place, env=sweeps.environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("names", [NAMES, ("polyp",)], ids=["three", "one"])
def test_from_a_folder_to_a_segmenter(tmp_path, names):
    """Photos are png and jpg, labels a table, masks of the val images alone; one image has no label."""
    own = tmp_path / "own"
    labels = write_folder(own, count=24, names=names, empty=3 if len(names) == 1 else 0)
    images = list(labels)
    (own / "train.txt").write_text("\n".join(images[:16]))
    (own / "val.txt").write_text("\n".join(images[16:]))
    for name in images[:16]:
        (own / "masks" / f"{Path(name).stem}.png").unlink()
    names_csv(own / "labels.csv", {name: found for name, found in labels.items() if name != images[3]})
    said = command(tmp_path, "init", "mine", "--data", "own")
    path, *_, check, sweep = [line for line in said.splitlines() if line]
    assert "15 train, 8 val images" in said
    assert f"images/{images[3]}" in said
    program, checks, *arguments = shlex.split(check)
    assert (program, checks) == ("aream", "check-data")
    checked = json.loads(command(tmp_path, "check_data", *arguments, "--json"))
    assert checked[0]["good"]
    assert checked[0]["left_out"] == {f"images/{images[3]}": "images have no labels"}
    assert (tmp_path / "mine" / "seen.png").read_bytes().startswith(b"\x89PNG")
    settings = [f"--set={key}={text}" for key, text in SMALL.items()]
    place = sweeps.command(Path(path), *settings)[4:]
    command(tmp_path, "sweep", *place)
    (folder,) = [path.parent for path in (tmp_path / "runs").glob("*/summary.json")]
    content = json.loads((folder / "summary.json").read_text())
    assert "label-free (" in content["protocol"]["threshold"]
    assert "pseudo/miou" not in content["ranking"][0]["metrics"], "there is no train mask to score on"
    assert 0 <= content["ranking"][0]["metrics"]["seg/miou"] <= 1
    report = (folder / "report.html").read_text()
    assert "1 image left out: images have no labels" in report
    assert images[3] in report
    assert shlex.split(sweep)[:2] == ["aream", "sweep"]


def test_labels_from_elsewhere_train_a_segmenter_and_no_host(tmp_path):
    own, made, rng = tmp_path / "own", tmp_path / "made", np.random.default_rng(0)
    names_csv(own / "labels.csv", write_folder(own, count=20))
    made.mkdir()
    dataset = folder.build(config(own, "labels.csv"))
    for one in dataset.ids("train"):
        mask = dataset.mask(one)
        write_labels(made / f"{one}.png", np.where(rng.random(mask.shape) < 0.2, 0, mask).astype(np.uint8))
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\nruns: {tmp_path}/runs\ndata: {{name: folder, root: {own}, images: images, masks: masks, "
        "classes: classes.txt, labels: labels.csv, split: {val: 0.4}}\n"
        f"tracking: none\nsegmentation: {SMALL['segmentation'][:-1]}, labels: {made}}}\n"
    )
    command(tmp_path, "sweep", *sweeps.command(Path("mine.yaml"))[4:])
    content = json.loads((tmp_path / "runs/mine/summary.json").read_text())
    assert content["ranking"] == []
    (job,) = content["segmentation"]
    assert 0 <= job["metrics"]["seg/miou"] <= 1
    stages = {path.name.partition("-")[0] for path in (tmp_path / "runs/artifacts/records").iterdir()}
    assert stages == {"external_labels", "train_seg", "eval_seg"}
    assert "Segmentation" in (tmp_path / "runs/mine/report.md").read_text()
