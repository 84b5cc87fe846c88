"""Every sweep that ships is read and planned as it stands, and run scaled down: a key that is misspelt fails here.

Only data and weight files are replaced. The twin of a file keeps its axes, constraints, analyses and paper numbers;
networks, images and epochs become small.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.planner import Planner
from orchestrator.preflight.prepare import fingerprints, trial_configs
from orchestrator.reporting.summary import Summary
from orchestrator.reporting.write import write_summary
from orchestrator.results.ranking import rank
from orchestrator.results.segmentation_jobs import segmentation_jobs
from orchestrator.spec.reader import load_spec
from orchestrator.spec.spec import SweepSpec
from orchestrator.spec.yaml_source import read_source
from orchestrator.workspace import Workspace
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner

ROOT = Path(__file__).resolve().parents[3]
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))
PAPER = sorted((ROOT / "sweeps" / "paper").glob("*.yaml"))
FILES = ("weights", "trained")
"""Keys that name a file."""
SMALL = {
    "voc2012": {"name": "shapes", "image_size": 32, "train_images": 6, "val_images": 2},
    "coco2014": {"name": "shapes", "image_size": 32, "train_images": 6, "val_images": 2},
    "mctformer_v2": {"patch_size": 8, "dim": 12, "depth": 12, "heads": 2},
    "vit": {"vit": "vit_tiny_patch16_224", "patch_size": 4, "dim": 12, "depth": 12, "heads": 2},
    "deeplab": {"encoder": "resnet10t", "output_stride": None, "channels": 4},
    "conformer": {"patch_size": 8, "dim": 12, "depth": 12, "heads": 3, "base_channels": 4, "channel_ratio": 1},
    "psa": {
        "network": {"width": 2, "depths": [1, 1, 1, 1]}, "targets": {"scores": "plain"},
        "train": {"epochs": 1, "batch_size": 2, "crop": 96},
    },
    "deeplab_largefov": {"width": 2, "depths": [2, 1, 1, 2], "channels": 4, "rate": 2},
    "attention_statistics": {"images": 3, "examples": 1},
}  # fmt: skip
SIDE = 32
TRAINING = {"epochs": 2, "warmup_epochs": 1, "batch_size": 3, "lr_warmup_epochs": 0, "image_size": SIDE}
SEGMENTATION = {"epochs": 1, "batch_size": 3, "crop": 32}
EVALUATION = {"scales": [1.0]}


def smaller(node: Any, key: str = "") -> Any:
    """The same with small components; axes keep their keys and the number of their values."""
    if isinstance(node, list):
        return [smaller(item, key) for item in node]
    if not isinstance(node, dict):
        return node
    if key in ("where", "paper"):
        return node
    made = {name: smaller(item, name) for name, item in node.items() if not is_file(name, item)}
    change = SMALL.get(str(made.get("name")))
    if change is not None:
        return {**made, **change} if "name" not in change else dict(change)
    if "epochs" in made and key in ("train", "grid"):
        return {**made, **(SEGMENTATION if "crop" in made else TRAINING)}
    if key in ("inference", "evaluate") and made.get("image_size"):
        made["image_size"] = SIDE
    return {**made, **EVALUATION} if key == "evaluate" else made


def twin(path: Path, folder: Path) -> SweepSpec:
    data = smaller(read_source(path, []).data)
    written = folder / path.name
    written.write_text(f"# Twin.\n{json.dumps({**data, 'seeds': [0], 'runs': str(folder / 'runs')})}")
    return load_spec(written)


def is_file(key: str, value: Any) -> bool:
    """Not the layer weights of a method."""
    return key in FILES and isinstance(value, str) and "/" in value


def files_of(node: Any) -> list[str]:
    """Weight files that a sweep names."""
    if isinstance(node, list):
        return [name for item in node for name in files_of(item)]
    if not isinstance(node, dict):
        return []
    own = [value for key, value in node.items() if is_file(key, value)]
    return own + [name for item in node.values() for name in files_of(item)]


def identifier(path: Path) -> str:
    return str(path.relative_to(ROOT / "sweeps"))


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=identifier)
def test_every_sweep_that_ships_is_read_and_planned(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in files_of(read_source(path, []).data):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"weights")
    spec = load_spec(path)
    for word in ("Command: python -m orchestrator.sweep", path.name, "Cost:", "Expected:"):
        assert word in spec.description
    planner = Planner(spec, {repr(trial.data): "0" * 64 for trial in trial_configs(spec)})
    trials = planner.grid()
    assert len(trials) == len(spec.seeds) * len({planner.trial(v, spec.seeds[0]).key for v in spec.training_points()})
    for trial in trials:
        for variant in trial.variants:
            assert [stage.name for stage in variant.stages.analyses] == [chosen.name for chosen in spec.analyses]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAPER, ids=identifier)
def test_a_scaled_down_twin_plans_as_many_variants(path, tmp_path):
    spec, small = load_spec(path), twin(path, tmp_path)
    assert [axis.key for axis in small.axes] == [axis.key for axis in spec.axes]
    assert small.paper == spec.paper
    counts = [sum(len(one.variant_points(v)) for v in one.training_points()) for one in (spec, small)]
    assert counts[0] == counts[1]
    planner = Planner(small, fingerprints(small))
    assert sum(len(trial.variants) for trial in planner.grid()) == counts[1]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("path", PAPER, ids=identifier)
def test_a_scaled_down_twin_runs_to_its_report(path, tmp_path):
    """Stages in this process, without Ray: every stage a file asks for works with its neighbours."""
    spec = twin(path, tmp_path)
    planner = Planner(spec, fingerprints(spec))
    place = Workspace(store_uri=None, runs=spec.runs_dir, name=spec.name)
    store = place.store()
    place.folder.mkdir(parents=True)
    runner = StageRunner(store, Runtime())
    trials = planner.grid()
    for trial in trials:
        for variant in trial.variants:
            for stage in variant.stages.all():
                runner.run(stage)
    ranking = rank(trials, store, spec.ranked_by, spec.resources.trial)
    jobs = segmentation_jobs(planner, ranking)
    for job in jobs:
        runner.run(job.stage)
    write_summary(Summary(spec, ranking, jobs, {}, planner.fingerprints), place, store)
    content = json.loads(place.summary_file.read_text())
    report = (place.folder / "report.md").read_text()
    assert len(content["ranking"]) == sum(len(trial.variants) for trial in trials)
    assert "Thresholds without ground truth" in report
    if spec.paper is not None:
        assert all(row["ours"] is not None for row in content["paper"]["rows"])
        assert "Against the paper" in report
    for chosen in spec.analyses:
        if chosen.name == "segmentation_head":  # a number, and nothing by layer
            assert all("head/seg_miou" in entry["metrics"] for entry in content["ranking"])
        else:
            assert (place.folder / "figures" / f"{chosen.name}.png").exists()
            assert f"{chosen.name}: " in report
    if any(chosen.name == "attention_statistics" for chosen in spec.analyses):
        pictures = list((place.folder / "figures").glob("attention_statistics_*.png"))
        methods = functools.reduce(set.union, ({entry["method"]} for entry in content["ranking"]), set())
        assert methods == {"mean_affinity", "aream"}
        assert len(pictures) >= 2 * len(methods)
