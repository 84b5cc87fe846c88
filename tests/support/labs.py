"""A lab file and a sweep for it, as tests change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.submission.describe import describe
from orchestrator.submission.job import Job
from orchestrator.submission.lab import read_lab

SWEEP = """
# Which rate?
name: swept
data: {name: shapes, image_size: 32, train_images: 4, val_images: 2}
backbone: {vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}
train: {epochs: 4, warmup_epochs: 2, lr_warmup_epochs: 0, image_size: 32}
axes: {train.lr: [0.01, 0.001]}
"""
LAB: dict[str, Any] = {
    "runs": "/srv/runs",
    "overrides": {"store.uri": "s3://lab/store", "tracking.uri": "http://mlflow:5000"},
    "environment": {"AWS_DEFAULT_REGION": "us-east-1"},
    "secrets": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    "worker": {"cpus": 8, "gpus": 1, "memory_gib": 32, "least": 1, "most": 4},
    "ray": {"address": "http://127.0.0.1:1"},
    "kuberay": {"image": "registry.lab/aream:1", "secret": "aream"},
}


def write_sweep(folder: Path, extra: str = "") -> Path:
    path = folder / "sweep.yaml"
    path.write_text(SWEEP + extra)
    return path


def write_lab(folder: Path, **changes: Any) -> Path:
    """JSON is YAML. None leaves a key out."""
    path = folder / "lab.yaml"
    content = {key: value for key, value in {**LAB, **changes}.items() if value is not None}
    path.write_text("\n".join(["{", *(f"{json.dumps(k)}: {json.dumps(v)}," for k, v in content.items()), "}"]))
    return path


def described(
    folder: Path, *overrides: str, target: str = "kuberay", extra: str = "", **changes: Any
) -> tuple[Job, Any]:
    """The job, and the target's section."""
    lab, section = read_lab(write_lab(folder, **changes), target)
    return describe(write_sweep(folder, extra), lab, overrides, section.image), section
