"""Dense CRF: our lattice on torch, against pydensecrf in the same run where AREAM_PYDENSECRF names an interpreter that
has it (see build_pydensecrf.py), else against what it took on another machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from aream.crf.dense_crf import PSA, DenseCRF
from benchmarks.measure import Kind, Result

KIND: Kind = "cpu"
HEIGHT, WIDTH, CLASSES = 375, 500, 21
SCENES = 4
ROUNDS = 3
ELSEWHERE_SECONDS = 1.1
"""Of pydensecrf for one image, on one thread of a 2.5 GHz Xeon."""
LEAST_AGREEMENT = 0.99
DATA = Path(os.environ.get("AREAM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "voc12_animals"


def measure() -> list[Result]:
    kind, images, masks = _scenes()
    probabilities = np.stack([_probabilities(mask, seed) for seed, mask in enumerate(masks)])
    crf = DenseCRF(PSA)
    pixels = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    unaries = [torch.from_numpy(each) for each in probabilities]
    interpreter = os.environ.get("AREAM_PYDENSECRF")
    ours: list[float] = []
    theirs: list[float] = []
    posteriors: list[torch.Tensor] = []
    expected = None
    crf.apply(pixels[0], unaries[0])
    for _ in range(ROUNDS):
        started = time.process_time()
        posteriors = [crf.apply(image, unary) for image, unary in zip(pixels, unaries, strict=True)]
        ours.append((time.process_time() - started) / len(images))
        if interpreter:
            seconds, expected = _pydensecrf(interpreter, images, probabilities)
            theirs.append(statistics.mean(seconds))
    labels = np.stack([posterior.argmax(dim=0).numpy() for posterior in posteriors])
    agreement = 1.0 if expected is None else float((labels == expected).mean())
    against = (
        "pydensecrf 1.0rc3 in this run" if interpreter else "pydensecrf's 1.1 s on a 2.5 GHz Xeon, not in this run"
    )
    changed = float((labels != probabilities.argmax(axis=1)).mean())
    return [
        Result(
            name="crf",
            unit="CPU s",
            ours=statistics.median(ours),
            baseline=statistics.median(theirs) if theirs else ELSEWHERE_SECONDS,
            required=1,
            input=f"one of {len(images)} {kind} {WIDTH}x{HEIGHT}, {CLASSES} labels, {PSA.iterations} iterations; "
            f"against {against}; the CRF changes {changed:.1%} of the labels",
            same=agreement >= LEAST_AGREEMENT,
            difference=f"{1 - agreement:.3%} of pixels" if interpreter else "not compared",
        )
    ]


def _pydensecrf(interpreter: str, images: np.ndarray, probabilities: np.ndarray) -> tuple[list[float], np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        scenes, labels = Path(scratch, "scenes.npz"), Path(scratch, "labels.npy")
        np.savez(scenes, images=images, probabilities=probabilities)
        command = [interpreter, str(Path(__file__).with_name("pydensecrf_side.py")), str(scenes), str(labels)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout), np.load(labels)


def _scenes() -> tuple[str, np.ndarray, np.ndarray]:
    """Images (n, h, w, 3) and masks (n, h, w): VOC's of this size where they are, else drawn."""
    found = []
    for path in sorted(DATA.glob("SegmentationClass/*.png")):
        with Image.open(path) as mask:
            if mask.size == (WIDTH, HEIGHT):
                with Image.open(DATA / "JPEGImages" / f"{path.stem}.jpg") as image:
                    found.append((np.array(image.convert("RGB")), np.array(mask)))
        if len(found) == SCENES:
            break
    kind = "VOC images" if found else "drawn scenes"
    images, masks = zip(*(found or [_drawn(seed) for seed in range(SCENES)]), strict=True)
    return kind, np.stack(images), np.stack(masks)


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two shaded ellipses on a shaded ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    image = rng.uniform(40, 200, 3) + 0.1 * x[..., None] + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    for label in rng.choice(np.arange(1, CLASSES), 2, replace=False):
        center, radius = rng.uniform(80, 300, 2), rng.uniform(50, 120, 2)
        inside = ((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 < 1
        mask[inside] = label
        image[inside] = rng.uniform(20, 230, 3) + rng.normal(0, 6, (int(inside.sum()), 3))
    return image.clip(0, 255).astype(np.uint8), mask


def _probabilities(mask: np.ndarray, seed: int) -> np.ndarray:
    """What a network might say: the mask on a grid of 16 pixels under noise, bilinear back to image size."""
    grid = (HEIGHT // 16, WIDTH // 16)
    labels = torch.from_numpy(np.where(mask < CLASSES, mask, 0)).long()
    hot = F.one_hot(labels, CLASSES).permute(2, 0, 1)[None].float()
    noise = torch.randn(1, CLASSES, *grid, generator=torch.Generator().manual_seed(seed))
    logits = 5 * F.adaptive_avg_pool2d(hot, grid) + noise
    full = F.interpolate(logits, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    return full[0].softmax(dim=0).numpy()
