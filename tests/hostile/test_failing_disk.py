"""Files that a machine cannot read for a reason of its own: no fault of theirs, so that a stage is tried again."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from failing_disk import failing_at
from PIL import Image
from safetensors.torch import save_file
from small_voc import write_voc

from aream.data.examination import examine
from aream.data.files import bounded_lines, read_bounded
from aream.data.findings import Findings
from aream.data.images import read_image, read_indices
from aream.datasets import voc2012
from aream.errors import DataError, DataUnavailable
from aream.infer import ImageCams, ScaleMaps
from aream.networks.checkpoint import read_state_dict, weights_fingerprint
from aream.networks.mxnet_params import read_params
from workers.failures import failure_of, may_pass
from workers.files.cams import StoredCams, read_cams, write_cams
from workers.files.scores import read_scores, write_scores

MEMORY = "/proc/self/mem"
"""A regular file to whoever asks, of which reading the first byte is an input/output error."""


@contextlib.contextmanager
def no_further_file() -> Iterator[None]:
    """The process has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


STATE = {"weight": torch.zeros(2)}
GREY = Image.new("L", (4, 4), 1)
CAMS = ImageCams("a", (30, 40), (1, 4), (ScaleMaps(torch.rand(3, 2, 4, 5), (1.0, 1.0)),))
NO_SCORES = np.zeros((2, 1, 4, 4), dtype=np.float32)
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "content": ("a", lambda path: path.write_bytes(b"a"), read_bounded),
    "lines": ("a", lambda path: path.write_bytes(b"a"), lambda path: list(bounded_lines(path))),
    "image": ("a.png", GREY.save, read_image),
    "mask": ("a.png", GREY.save, read_indices),
    "safetensors": ("a.safetensors", lambda path: save_file(STATE, path), read_state_dict),
    "torch": ("a.pt", lambda path: torch.save(STATE, path), read_state_dict),
    "CAMs": ("index.jsonl", lambda path: write_cams(path.parent, [CAMS]), lambda path: list(read_cams(path.parent))),
    "scores": ("a.scores", lambda path: write_scores(path, NO_SCORES), lambda path: read_scores(path, (4, 4))),
}
"""Name of a file, what writes and what reads it."""


@pytest.fixture(params=READERS)
def reading(request, tmp_path):
    name, write, read = READERS[request.param]
    write(tmp_path / name)
    return tmp_path / name, read


def test_too_many_open_files_are_no_fault_of_a_file(reading):
    path, read = reading
    with no_further_file(), pytest.raises(DataUnavailable, match="Too many open files") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert may_pass(caught.value)
    assert failure_of("warmup-0", caught.value) is caught.value
    read(path)


def test_too_many_open_files_are_no_fault_of_a_shard(tmp_path):
    write_cams(tmp_path, [CAMS])
    stored = StoredCams(tmp_path)
    with no_further_file(), pytest.raises(DataUnavailable, match=r"cams-00000\.safetensors: .*Too many open files"):
        stored["a"]
    assert stored["a"].image_id == "a"
    (tmp_path / "cams-00000.safetensors").unlink()
    with pytest.raises(DataError, match="holds no CAMs of a") as caught:
        StoredCams(tmp_path)["a"]
    assert not may_pass(caught.value)


def test_too_many_open_files_are_no_damage_of_parameters(tmp_path):
    (tmp_path / "a.params").write_bytes(bytes(64))
    with no_further_file(), pytest.raises(DataUnavailable, match=r"a\.params: .*Too many open files"):
        read_params(tmp_path / "a.params")
    with pytest.raises(DataError, match="not a list of MXNet arrays"):
        read_params(tmp_path / "a.params")


def test_too_many_open_files_are_no_other_weights(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    with no_further_file(), pytest.raises(DataUnavailable, match="Too many open files"):
        weights_fingerprint(str(tmp_path / "a.pt"), "")
    assert len(weights_fingerprint(str(tmp_path / "a.pt"), "")) == 64


def test_a_check_lists_what_is_no_finding_of_a_stage(tmp_path):
    root = write_voc(tmp_path / "voc", train=6, val=3)
    config = voc2012.Config(root=str(root))
    image = root / "JPEGImages" / f"{voc2012.build(config).ids('train')[0]}.jpg"
    dataset, found = voc2012.build(config), Findings()
    with failing_at(1, image):
        examine(dataset, found, sample=None)
    (finding,) = (finding for finding in found if finding.hard)
    assert finding.examples == [f"{image}: cannot be read at the moment (Input/output error)"]
    with failing_at(1, image), pytest.raises(DataUnavailable):
        examine(dataset, Findings(strict=True), sample=None)


def test_a_file_that_is_missing_stays_so(reading):
    path, read = reading
    path.unlink()
    with pytest.raises(DataError, match=path.name) as caught:
        read(path)
    assert not may_pass(caught.value)


def test_a_file_that_is_cut_short_stays_so(reading):
    path, read = reading
    if path.name == "a":
        pytest.skip("any bytes are such a file")
    path.write_bytes(path.read_bytes()[:6])
    with pytest.raises(DataError, match=path.name) as caught:
        read(path)
    assert not may_pass(caught.value)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.png", read_image),
        ("a.pt", read_state_dict),
        ("a.txt", lambda path: list(bounded_lines(path))),
    ],
)
def test_an_error_in_the_middle_of_reading_is_no_fault_of_a_file(tmp_path, name, read):
    (tmp_path / name).symlink_to(MEMORY)
    with pytest.raises(DataUnavailable, match=rf"{name}: cannot be read at the moment \(Input/output error\)"):
        read(tmp_path / name)
