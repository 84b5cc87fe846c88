"""What the number of images costs around a training: a tenth of VOC's, VOC's 10,582 and COCO's 82,081.

    python -m benchmarks.image_counts [--counts 1058,10582,82081]

The folder is in VOC's layout, with tiny pictures under as many names. Each step is a process of its own: data read and
fingerprinted, the sweep planned with that at hand, CAM files written, two label variants made and stored, the report
written. CAMs are made up, since nothing here depends on who trained. Runs for half an hour on a quiet core, so it is
not among those of ``make bench``.

No step may grow by more than the images do, nor what it holds of memory: exit status 1 where one does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import RESULTS
from benchmarks.photos import write_photos
from benchmarks.sides import ROOT
from workers.processes.provenance import code_revision

COUNTS = (1_058, 10_582, 82_081)
STEPS = ("fingerprint", "plan", "cams", "labels", "report")
PICTURES, PICTURE, GRID, DEPTH = 64, (48, 32), (2, 3), 4
SLACK = 1.25
"""Growth of a step's CPU seconds that may be more than that of the images: a machine is not always as fast."""
LEAST_MB, LEAST_S = 16, 1.0
"""Below these a difference of memory or time tells of nothing that a sweep would notice."""
SWEEP = """
name: counted
runs: {runs}
data: {{name: voc2012, root: {root}}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 16, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32, batch_size: 2}}
tracking: {{name: none}}
axes:
  inference.layers: {{grid: [none, all]}}
"""


def measured(step: str, count: int, folder: Path) -> dict[str, float]:
    """CPU seconds of one step, and MiB that its process holds more at most than before it."""
    import torch

    torch.set_num_threads(1)
    work = _work(step, folder)
    before, began = psutil.Process().memory_info().rss / 2**20, time.process_time()
    work()
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": round(spent, 3), "mb": round(max(0.0, peak - before), 1)}


def _work(step: str, folder: Path) -> Callable[[], object]:
    """A function that does the step alone: libraries are loaded, and what it needs is made."""
    import matplotlib.figure  # noqa: F401
    import ray  # noqa: F401

    from orchestrator.monitor.state import SweepState
    from orchestrator.preflight.prepare import prepare
    from orchestrator.preflight.preview import summarise
    from orchestrator.reporting.summary import Summary
    from orchestrator.reporting.write import write_summary
    from orchestrator.results.ranking import best_first
    from orchestrator.results.ranking import measured as measured_variants
    from orchestrator.results.records import RunRecords
    from orchestrator.spec.reader import load_spec
    from workers.processes.runtime import Runtime
    from workers.stage_runner import StageRunner

    path = folder / "counted.yaml"
    if step in ("fingerprint", "plan"):

        def plan() -> None:
            prepared = prepare(load_spec(path))
            summarise(prepared.planner, prepared.workspace.store())

        return plan
    prepared = prepare(load_spec(path))
    spec, store = prepared.spec, prepared.workspace.store()
    (trial,) = prepared.planner.grid()
    stages = [variant.stages.labels for variant in trial.variants]
    if step == "cams":

        def cams() -> None:
            for stage in stages[0].ancestry():
                if stage.key != stages[0].key:
                    _store(stage, store)

        return cams
    if step == "labels":
        return lambda: list(StageRunner(store, Runtime()).run_all(stages))

    def report() -> None:
        records = RunRecords(store)
        found = measured_variants([trial], records, spec.resources.trial)
        ranking = best_first(found, spec.ranked_by)
        assert len(ranking) == len(stages)
        state = SweepState(prepared.workspace.state_file, spec.name)
        summary = Summary(spec, ranking, [], {}, prepared.planner.fingerprints, state)
        write_summary(summary, prepared.workspace, store, records)

    return report


def _store(stage: Any, store: Any) -> None:
    """Leave what a training and its CAMs would."""
    from workers.components import build_dataset
    from workers.files.cams import write_cams
    from workers.record_of import record_of

    out, metrics = store.staging(), {"val/map": 0.5, "val/kept_epoch": 1.0}
    if stage.name == "infer_cam":
        metrics = {"images": float(write_cams(out, _cams(build_dataset(stage.config.data))))}
    store.put(stage.key, out, record_of(stage, metrics, [], 1.0))


def _cams(dataset: Any) -> Iterator[Any]:
    import numpy as np
    import torch

    from aream.infer import ImageCams, ScaleMaps

    generator = torch.Generator().manual_seed(0)
    for image_id in dataset.ids("train"):
        classes = tuple(int(index) for index in np.flatnonzero(dataset.labels(image_id)))
        maps = torch.rand(DEPTH + 1, len(classes), *GRID, generator=generator)
        yield ImageCams(image_id, PICTURE[::-1], classes, (ScaleMaps(maps, (1.0, 1.0)),))


def main(arguments: Sequence[str] | None = None, results: Path = RESULTS) -> int:
    parser = argparse.ArgumentParser(description="Time and memory of a sweep's steps by the number of images.")
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="of images, ascending")
    parser.add_argument("--inside", nargs=3, metavar=("STEP", "COUNT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        step, count, folder = options.inside
        print(json.dumps(measured(step, int(count), Path(folder))))
        return 0
    rows: list[dict[str, Any]] = []
    for count in map(int, options.counts.split(",")):
        rows.append({"images": count})
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "voc")
            write_photos(root, {"train": count}, 1, pictures=PICTURES, size=PICTURE)
            Path(folder, "counted.yaml").write_text(
                SWEEP.format(runs=Path(folder, "runs"), root=root), encoding="utf-8"
            )
            for step in STEPS:
                rows[-1][step] = _in_a_process(step, count, folder)
                print(f"{count} images: {step}: {rows[-1][step]}", flush=True)
    worse = worse_than_linear(rows)
    content = {"allowed": SLACK, "commit": code_revision(), "cores": os.cpu_count(), "points": rows, "worse": worse}
    (results / "image_counts.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for said in worse:
        print(said)
    return 1 if worse else 0


def _in_a_process(step: str, count: int, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.image_counts", "--inside", step, str(count), folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def worse_than_linear(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What grew by more than the images, from one number of them to the next."""
    said = []
    for fewer, more in itertools.pairwise(rows):
        most = SLACK * more["images"] / fewer["images"]
        for step in STEPS:
            for figure, least in (("cpu_s", LEAST_S), ("mb", LEAST_MB)):
                before, after = fewer[step][figure], more[step][figure]
                if after > most * max(before, least):
                    said.append(
                        f"{step}: {figure} {before:g} at {fewer['images']:,} images, {after:g} at {more['images']:,}"
                    )
    return said


if __name__ == "__main__":
    sys.exit(main())
