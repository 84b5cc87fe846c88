"""One key, the same bytes: what is computed on is part of it, or makes no difference."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_trials import DATA, TRIAL, Work, fingerprint

from aream import discover
from aream.config import Component
from aream.errors import StageFailed
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec
from workers import analysis, stages
from workers.pipelines import external_labels_stage, segmentation_stage, training_stage, variant_stages
from workers.processes.hardware import Hardware
from workers.trial import SegmentationConfig

ROOT = Path(__file__).resolve().parents[3]
OF_OTHER_METHODS = {"segmentation_head"}
"""Analyses of a decoder, which the trial's method has not; ``test_analyses.py`` has them."""
ANALYSES = [
    Component(name=name, config=analysis.options_class(name)())
    for name in analysis.names()
    if name not in OF_OTHER_METHODS
]
CUDA = Hardware(device="cuda")
TRAINED = """
import hashlib, json, sys
from pathlib import Path
from orchestrator.cluster.stage_runner import stage_runner
from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints
from orchestrator.spec.reader import load_spec
from orchestrator.workspace import Workspace

spec = load_spec(Path(sys.argv[1]), [f"resources={{trial: {{cpu: {sys.argv[2]}}}}}"])
planner = Planner(spec, fingerprints(spec))
(trial,) = planner.grid()
place = Workspace(store_uri=sys.argv[3], runs=Path(sys.argv[3]), name="x")
runner = stage_runner(place, cpu=float(sys.argv[4]), gpu=0)
found = {}
for last in (trial.train, *trial.variants[0].stages.all()):
    for stage in last.ancestry():
        record = runner.run(stage)
        found[stage.key] = [entry.sha256 for entry in runner.store.files(record)], record.device
print(json.dumps(found))
"""
SWEEP = """
name: x
data: {name: shapes, image_size: 64, train_images: 16, val_images: 4}
backbone: {vit: vit_tiny_patch16_224, patch_size: 8, dim: 48, depth: 2, heads: 2, initialisation: mimetic}
method: {name: aream, refiner: {name: par, iterations: 1, dilations: [1]}}
train: {epochs: 2, warmup_epochs: 1, batch_size: 8, lr: 1e-3, lr_warmup_epochs: 0, image_size: 64}
labels: {refiner: {name: par, iterations: 1, dilations: [1]}}
inference: {image_size: 64}
"""


def trained(folder: Path, cpu: int, cores: float) -> dict[str, tuple[list[str], str]]:
    """Files and devices of a trial's artifacts by key, computed by a process of its own that has ``cores``."""
    sweep = folder / "x.yaml"
    sweep.write_text(SWEEP)
    store = folder / f"store-{cpu}-{cores:g}"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", TRAINED, str(sweep), str(cpu), str(store), str(cores)]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    return {key: tuple(value) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.slow
def test_threads_give_other_keys_or_the_same_bytes(tmp_path):
    """And the cores of the worker that happens to compute a stage change nothing."""
    one, two, two_on_one_core = trained(tmp_path, 1, 1), trained(tmp_path, 2, 2), trained(tmp_path, 2, 1)
    assert not any(one[key][0] != two[key][0] for key in one.keys() & two.keys())
    assert two_on_one_core.keys() == two.keys()
    assert {key: files for key, (files, _) in two_on_one_core.items()} == {
        key: files for key, (files, _) in two.items()
    }
    assert all(device.startswith("cpu, 2 threads: ") for _, device in two.values())


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_precision_is_what_it_means_on_the_device(precision):
    def stage(hardware, precision):
        train = dataclasses.replace(TRIAL.train, precision=precision)
        return variant_stages(
            TRIAL, fingerprint, [], training_stage(dataclasses.replace(TRIAL, train=train), fingerprint, 1, hardware)
        ).cams.inputs["host"]

    meant = {"cpu": {"auto": "fp32"}, "cuda": {"auto": "bf16"}}
    for hardware in (Hardware(), CUDA):
        found = stage(hardware, precision)
        wanted = meant[hardware.device].get(precision, precision)
        assert found.config.train.precision == found.inputs["warmup"].config.train.precision == wanted
        assert found.key == stage(hardware, wanted).key
    assert stage(Hardware(), precision).key != stage(CUDA, precision).key


def every_stage(hardware):
    variant = variant_stages(TRIAL, fingerprint, ANALYSES, training_stage(TRIAL, fingerprint, 1, hardware))
    seg = segmentation_stage(SegmentationConfig(), TRIAL, variant.labels, fingerprint, hardware)
    found = [stage for last in (*variant.all(), seg) for stage in last.ancestry()]
    return {stage.name: stage for stage in found}


def test_on_a_gpu_only_what_torch_computes_on_the_cpu_knows_its_threads():
    one, two = every_stage(CUDA), every_stage(dataclasses.replace(CUDA, threads=2))
    assert one["train_cam"].key == two["train_cam"].key
    assert one["infer_cam"].key == two["infer_cam"].key
    assert one["pseudo_label"].key != two["pseudo_label"].key
    assert (two["train_cam"].threads, two["pseudo_label"].threads) == (1, 2)
    assert all(stage.hardware == CUDA for stage in one.values())


@pytest.mark.slow
def test_copies_of_labels_are_the_same_on_everything(tmp_path):
    (tmp_path / "labels").mkdir()
    work = Work(tmp_path)
    labels = variant_stages(TRIAL, fingerprint).labels
    folder = work.store.get(work.runner.run(labels).key) / "labels"
    stage = external_labels_stage(str(folder), DATA, fingerprint)
    assert stage.key == dataclasses.replace(stage, hardware=Hardware("cuda", 8)).key


def test_a_worker_without_a_gpu_computes_nothing_that_is_of_one(tmp_path):
    with pytest.raises(StageFailed, match=r"computed on a GPU, and this worker has none"):
        Work(tmp_path).runner.run(training_stage(TRIAL, fingerprint, 1, CUDA))


@pytest.mark.slow
def test_a_plan_takes_it_from_the_resources(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(SWEEP)

    def trial(resources, auto=frozenset()):
        spec = load_spec(path, [f"resources={resources}"])
        return Planner(spec, fingerprints(spec), auto).trial({}, 0).train

    assert trial("{trial: {gpu: 0.5, cpu: 2}}").hardware == Hardware("cuda", 2)
    assert trial("{trial: {gpu: 0.5}}").key == trial("{trial: {gpu: 1}}").key
    assert trial("{trial: {cpu: 2}}").key != trial("{trial: {cpu: 1}}").key
    assert trial("{trial: {cpu: 0.5}}").key == trial("{trial: {cpu: 1.5}}").key
    assert trial("{trial: {gpu: auto}}").hardware.device == "cpu"
    assert trial("{trial: {gpu: auto}}", frozenset({"trial"})).hardware.device == "cuda"


@pytest.mark.parametrize("name", discover.names(stages))
def test_each_stage_says_what_it_computes_on(name):
    """Who uses the worker's device says so, and who does not, does not."""
    module = discover.load(stages, name)
    source = Path(module.__file__).read_text()
    others = [other for other in discover.names(stages) if f"{other}.prepared(" in source]  # what prepares it
    texts = [source, *(Path(discover.load(stages, other).__file__).read_text() for other in others)]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    uses = any(isinstance(node, ast.Attribute) and node.attr == "device" for node in nodes)
    assert ("device" in module.COMPUTES_ON) == uses
    assert set(module.COMPUTES_ON) <= {"device", "threads"}
