"""Memory of writing CAMs and labelling from them: 50,000 images against 500, and against level maps kept in memory.

Each side is a process of its own, whose peak of resident memory counts. Images are one picture under as many ids, and
each has maps of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from aream.config import Component
from aream.infer import ImageCams, ScaleMaps
from aream.labels.pseudo_labels import LabelsConfig, LevelMap, ThresholdSearch
from benchmarks import one_picture
from benchmarks.measure import Kind, Result
from benchmarks.one_picture import CLASSES, SIDE
from workers import plugins
from workers.checkpoint import NoCheckpoint
from workers.files.cams import read_cams, write_cams
from workers.processes.runtime import Runtime
from workers.stage import StageContext
from workers.stages import pseudo_label

KIND: Kind = "cpu"
FEW, MORE, MANY = 500, 5_000, 50_000
GRID, LAYERS = 4, (0, 1, 2)
DATA = Component(name="one_picture", config=one_picture.Config())
MOST = 1.1
"""Times the memory of ``FEW``."""


def random_cams(images: int) -> Iterator[ImageCams]:
    generator = torch.Generator().manual_seed(0)
    for number in range(images):
        maps = torch.rand(len(LAYERS) + 1, 2, GRID, GRID, generator=generator)
        yield ImageCams(f"simulated_{number:06d}", (SIDE, SIDE), (0, 1), (ScaleMaps(maps, (1.0, 1.0)),))


def measure() -> list[Result]:
    few, many = _megabytes("stage", FEW), _megabytes("stage", MANY)
    kept_few, kept_more = _megabytes("kept", FEW), _megabytes("kept", MORE)
    ours, kept = (many - few) / (MANY - FEW) * 1024, (kept_more - kept_few) / (MORE - FEW) * 1024
    place = f"{SIDE} px, {CLASSES} classes, simulated ids"
    return [
        Result(
            name="label memory",
            unit="MB peak RSS",
            ours=many,
            baseline=few,
            required=round(1 / MOST, 4),
            input=f"CAMs written and labels made, {MANY:,} images against {FEW:,}, at most {MOST:g} times; {place}",
        ),
        Result(
            name="label memory an image",
            unit="KB an image",
            ours=max(ours, 0.001),
            baseline=kept,
            required=10,
            input=f"growth of the peak from {FEW:,} to {MANY:,} images, against that of level maps kept compressed in "
            f"memory from {FEW:,} to {MORE:,}; {place}",
        ),
    ]  # fmt: skip


def _megabytes(kind: str, images: int) -> float:
    command = [sys.executable, "-m", "benchmarks.bench_label_memory", kind, str(images)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _stage(folder: Path) -> None:
    plugins.activate([plugins.read_plugin("one_picture.py", Path(__file__).parent)])
    config = pseudo_label.Config(data=DATA, layers=LAYERS, labels=LabelsConfig())
    context = StageContext(Runtime(), NoCheckpoint(), lambda row: None, lambda: False)
    out = folder / "out"
    out.mkdir()
    pseudo_label.run(config, {"cams": folder}, out, context)


def _kept(folder: Path) -> None:
    """As the stage did before: every level map in memory until a threshold is chosen."""
    search, packed = ThresholdSearch(LabelsConfig().grid(), CLASSES + 1), dict[str, bytes]()
    mask, device = torch.from_numpy(one_picture.OnePicture().truth), torch.device("cpu")
    for cams in read_cams(folder):
        packed[cams.image_id] = _packed(search.add(cams.image_id, cams.combined(LAYERS, device), [1, 2], mask))


def _packed(levels: LevelMap) -> bytes:
    return zlib.compress(torch.stack([levels.classes, levels.levels]).numpy().tobytes(), level=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sides: dict[str, Callable[[Path], None]] = {"stage": _stage, "kept": _kept}
    with tempfile.TemporaryDirectory() as temporary:
        write_cams(Path(temporary), random_cams(int(sys.argv[2])))
        sides[sys.argv[1]](Path(temporary))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
