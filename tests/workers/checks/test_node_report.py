"""What a node says of itself, and what the driver makes of it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_voc import write_voc

from aream.config import Component
from aream.datasets import voc2012
from workers.checks.node import NodeProbe, differences, disk_findings, facts, gpu_findings, gpu_words
from workers.contents import Content
from workers.processes.provenance import source_digest
from workers.staging import cache

WORKS = {"torch": "2.13.0+cu130", "torch_cuda": "13.0", "driver_cuda": "13.0", "gpus": ["H200"] * 4, "error": None}


def changed(**versions: str) -> dict[str, str]:
    return {**facts().versions, **versions}


@pytest.mark.parametrize(
    ("changes", "words", "hard"),
    [
        ({}, [], False),
        (
            {"sources": "0" * 64, "revision": "version 0.0.9"},
            ["its modules differ from the driver's (version 0.0.9"],
            True,
        ),
        ({"python": "3.99.1"}, [f"Python 3.99.1; the driver has {facts().python}"], True),
        ({"python": f"{facts().python}9"}, [f"Python {facts().python}9"], False),
        ({"versions": changed(torch="2.12.0+cu130")}, ["torch 2.12.0+cu130; the driver has 2."], True),
        ({"versions": changed(torch=f"{torch.__version__.partition('+')[0]}+cu999")}, ["+cu999"], False),
        ({"versions": changed(pillow="1.0", numpy="1.0")}, ["numpy 1.0", "pillow 1.0"], True),
    ],
)
def test_code_that_differs(changes, words, hard):
    found = list(differences(facts(), dataclasses.replace(facts(), **changes)))
    assert len(found) == len(words)
    for finding, part in zip(found, words, strict=True):
        assert part in finding.words
        assert (finding.column, finding.hard) == ("code", hard)


def test_the_digest_of_the_code_is_that_of_its_text(tmp_path):
    """Asked of a copy elsewhere, and of one that differs by a space."""
    root = Path(__file__).resolve().parents[3]
    found = []
    for name, addition in (("same", ""), ("other", " ")):
        copy = tmp_path / name
        for package in ("aream", "workers", "orchestrator"):
            for path in (root / package).rglob("*.py"):
                target = copy / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(path.read_text())
        (copy / "aream" / "metrics.py").write_text((root / "aream" / "metrics.py").read_text() + addition)
        command = "from workers.processes.provenance import source_digest; print(source_digest())"
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(
            [sys.executable, "-c", command], cwd=copy, env=environment, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.strip())
    assert found[0] == source_digest() != found[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"torch_cuda": None, "driver_cuda": None, "gpus": []}, "torch 2.13.0+cu130 is built without CUDA"),
        ({"driver_cuda": None, "gpus": [], "error": "Found no NVIDIA driver"}, "no NVIDIA driver (libcuda.so.1)"),
        (
            {"driver_cuda": "12.4", "gpus": [], "error": "The NVIDIA driver on your system is too old"},
            "torch is built for CUDA 13.0, the driver knows up to 12.4: The NVIDIA driver on your system is too old",
        ),
        ({"gpus": ["H200"]}, "Ray was told of 4 GPUs, torch sees 1"),
    ],
)
def test_gpus_in_words(changes, words):
    found = gpu_words({**WORKS, **changes}, 4.0)
    assert found is None if words is None else words in str(found)


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA here")
def test_a_torch_without_cuda_is_told_from_its_own_process():
    (finding,) = gpu_findings(1.0)
    assert f"torch {torch.__version__} is built without CUDA" in finding.words
    assert finding.hard


@pytest.mark.gpu
def test_gpus_that_work():
    assert gpu_findings(torch.cuda.device_count()) == []


def test_a_store_that_is_another_folder_here(tmp_path):
    uri = (tmp_path / "store").as_uri()
    (finding,) = NodeProbe().store(uri, tmp_path / "unused", None, "probe/x")
    assert "not seen here: need a folder that all nodes share" in finding.words
    assert not (tmp_path / "store").exists()
    (tmp_path / "store" / "probe").mkdir(parents=True)
    (tmp_path / "store" / "probe" / "x").write_bytes(b"")
    assert NodeProbe().store(uri, tmp_path / "unused", None, "probe/x") == []
    assert [path.name for path in (tmp_path / "store" / "probe").iterdir()] == ["x"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    findings = [finding for finding in disk_findings([tmp_path, tmp_path / "file" / "logs"]) if finding.hard]
    assert len(findings) == 1
    assert str(tmp_path / "file" / "logs") in findings[0].words


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_nearly_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        found = [finding for finding in disk_findings([disk]) if str(disk) in finding.words]
        assert [(finding.words, finding.hard) for finding in found] == [(f"{disk} has 31.5 MB free", True)]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_content_that_differs_or_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))

    def content(name: str) -> Content:
        return Content("data", Component(name="voc2012", config=voc2012.Config(root=str(tmp_path / name))))

    write_voc(tmp_path / "first")
    write_voc(tmp_path / "second", seed=1)
    known = content("first").identity()
    found = NodeProbe().contents([(content(name), known) for name in ("first", "second", "missing")])
    assert [finding.column for finding in found] == ["data", "data"]
    assert "data: other content than the driver's" in found[0].words
    assert str(tmp_path / "second") in found[0].words
    assert "holds no JPEGImages" in found[1].words
