"""What is read and refused before Ray is started."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from small_voc import write_voc

from aream.affinity_net import network as affinity_network
from aream.affinity_net.network import AffinityNetConfig
from aream.errors import AreamError, DataError
from orchestrator.preflight.nodes import refuse_unfit_machine
from orchestrator.preflight.prepare import prepare
from orchestrator.spec.reader import load_spec
from workers.contents import Content
from workers.staging import cache

ROOT = Path(__file__).resolve().parents[3]
SWEEP = """
name: looked-at
runs: {folder}/runs
data: {{name: voc2012, root: {root}}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32}}
segmentation: {{model: {{encoder: resnet10t, output_stride: null, level: 1, rates: [1], channels: 16}}}}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))
    monkeypatch.setenv(cache.HANDED, "")
    write_voc(tmp_path / "VOC2012")

    def sweep(root: str = f"{tmp_path}/VOC2012", *settings: str):
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP.format(folder=tmp_path, root=root))
        return load_spec(path, settings)

    return sweep


@pytest.mark.slow
def test_the_same_data_from_a_folder_and_from_an_archive(sweep, tmp_path):
    with tarfile.open(tmp_path / "voc.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "VOC2012", "VOCdevkit/VOC2012")
    folder = prepare(sweep())
    archive = prepare(sweep(f"file://{tmp_path}/voc.tar.gz#VOCdevkit/VOC2012"))
    assert [key for (content, key) in folder.contents] == [key for (content, key) in archive.contents]
    assert [content.key for content, _ in archive.contents] == ["data"]  # the weights are random
    assert [t.key for t in folder.planner.grid()] == [t.key for t in archive.planner.grid()]
    assert len(list((tmp_path / "node" / "items").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("segmentation.model.weights={}/missing.pth", "missing.pth: no such weight file"),
        ("backbone.weights=s3:///", "names no object"),
        ("labels.refiner={{name: psa, trained: {}/missing.pth}}", "missing.pth: no such weight file"),
        ("segmentation.labels={}/labels", "no such file"),
        ("backbone.weights=artifact://train_cam-0123456789ab#model.safetensors", "no artifact train_cam-0123456789ab"),
    ],
)
def test_weights_and_labels_are_looked_for_before_anything_runs(sweep, tmp_path, setting, error):
    with pytest.raises(AreamError, match=error):
        prepare(sweep(f"{tmp_path}/VOC2012", setting.format(tmp_path)))


def test_artifacts_that_the_sweep_reads_are_named(sweep, tmp_path):
    """A missing one is an error above; here the plan alone is asked."""
    spec = sweep(f"{tmp_path}/VOC2012", "segmentation.labels=artifact://pseudo_label-0123456789ab#labels")
    labels = Content("segmentation.labels", spec.base.data, spec.segmentation.labels)
    found = dataclasses.replace(prepare(sweep()), contents=[(labels, "x")])
    assert found.artifacts == {"pseudo_label-0123456789ab"}


@pytest.mark.slow
def test_a_plan_for_a_cluster_starts_no_ray(sweep, tmp_path):
    sweep()
    command = (
        "import sys; from orchestrator.sweep import main;"
        "status = main(sys.argv[1:]); assert 'ray' not in sys.modules; sys.exit(status)"
    )
    arguments = [str(tmp_path / "sweep.yaml"), "--plan", "--address", "192.0.2.1:6379"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_machine_without_the_gpu_asked_for(sweep, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    prepared = prepare(sweep(f"{tmp_path}/VOC2012", "resources={trial: {gpu: 0.5}}"))
    with pytest.raises(AreamError, match=r"resources\.trial\.gpu: torch"):
        refuse_unfit_machine(prepared)


def test_a_machine_that_fits_says_nothing(sweep):
    said: list[str] = []
    refuse_unfit_machine(prepare(sweep()), said.append)
    assert all("free" in line for line in said)


def test_corrupt_data_is_named_by_its_place_on_this_machine(sweep, tmp_path, monkeypatch):
    (tmp_path / "VOC2012" / "JPEGImages" / "2007_000003.jpg").write_bytes(b"no image")
    monkeypatch.setenv("AREAM_PATH_MAP", f"/data={tmp_path}")
    with pytest.raises(DataError, match=f"{tmp_path}/VOC2012/JPEGImages/2007_000003.jpg: does not decode"):
        prepare(sweep("/data/VOC2012"))


@pytest.mark.slow
def test_weights_of_a_refiner_in_any_variant_are_looked_at(sweep, tmp_path):
    """One content for each file, whatever else varies; a refiner that reads none is none."""
    network = "network: {width: 2, depths: [1, 1, 1, 1]}"
    torch.save({"conv1a.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "other.pth")
    trained = affinity_network.build(AffinityNetConfig(width=2, depths=(1, 1, 1, 1)))
    torch.save(trained.state_dict(), tmp_path / "affinity.pth")
    refiners = "{name: psa, %s, trained: %s/%s}"
    axes = "axes={labels.refiner: [none, {name: psa, %s}, %s]}"
    fits = refiners % (network, tmp_path, "affinity.pth")
    found = prepare(sweep(f"{tmp_path}/VOC2012", axes % (network, fits)))
    assert [content.key for content, _ in found.contents].count("labels.refiner") == 1
    wrong = refiners % (network, tmp_path, "other.pth")
    with pytest.raises(DataError, match=r"other.pth: does not fit AffinityNet: missing: "):
        prepare(sweep(f"{tmp_path}/VOC2012", axes % (network, wrong)))


DEEPLAB_V3 = "segmentation.model={{name: deeplab_v3, encoder: mobilenet_v3_large}}"
SMALL_CROP = "segmentation.train={{crop: 8, batch_size: 1}}"
LARGE_FOV = (
    "segmentation.model={{name: deeplab_largefov, head: transcam, width: 2, depths: [1, 1, 1, 1], channels: 8{}}}"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ([DEEPLAB_V3, "segmentation.train.batch_size=1"], "deeplab_v3 learns from two images at a time"),
        ([DEEPLAB_V3, "segmentation.train.out_of_memory=accumulate"], "whose micro-batches may be single images"),
        ([LARGE_FOV, SMALL_CROP], "a single number a channel in a step of 1 image of 8 pixels"),
        (["resources.trial.processes=2", "train.batch_size=1"], "need an image for each of the 2 processes"),
        (["resources.trial.processes=2", "backbone={{name: conformer, depth: 3}}"], "conformer has batch norm"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused_before_anything_runs(sweep, tmp_path, settings, error):
    with pytest.raises(AreamError, match=error):
        prepare(sweep(f"{tmp_path}/VOC2012", *(setting.format("") for setting in settings)))


@pytest.mark.parametrize("settings", [[DEEPLAB_V3, "segmentation.train.batch_size=2"], [SMALL_CROP]])
def test_steps_that_can_be_taken_are_not(sweep, tmp_path, settings):
    prepare(sweep(f"{tmp_path}/VOC2012", *(setting.format("") for setting in settings)))


def test_a_segmenters_weights_are_read_before_anything_runs(sweep, tmp_path):
    torch.save({"conv1a.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "trunk.pth")
    with pytest.raises(DataError, match=r"trunk\.pth: does not fit ResNet38: missing: "):
        prepare(sweep(f"{tmp_path}/VOC2012", LARGE_FOV.format(f", weights: {tmp_path}/trunk.pth")))


@pytest.mark.slow
def test_data_is_read_again_where_its_files_changed_or_when_asked(sweep, tmp_path):
    """A second command trusts sizes and times; ``--reread`` trusts nothing."""

    def identity(**options):
        (found,) = prepare(sweep(), **options).planner.fingerprints.values()
        return found

    image = tmp_path / "VOC2012" / "JPEGImages" / "2007_000003.jpg"
    first = identity()
    (content,) = [content for content, _ in prepare(sweep()).contents if content.key == "data"]
    content.remember("as it was remembered")
    assert identity() == "as it was remembered"  # nothing changed, so nothing is read
    assert identity(reread=True) == first
    assert identity() == first
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    content_before = image.read_bytes()
    assert identity() == first  # read again: the content is what it was
    before, other = image.stat(), bytearray(content_before)
    other[-20] ^= 1
    image.write_bytes(other)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    content.remember(first)  # as on a file system whose time of change can be set back too
    assert identity() == first
    changed = identity(reread=True)
    assert changed != first
    assert identity() == changed
    image.write_bytes(content_before)
    assert identity() == first
