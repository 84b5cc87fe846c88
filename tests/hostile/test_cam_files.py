"""Stored CAMs that mean harm: their index and their shards."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payload import Payload
from safetensors.torch import save_file

from aream.errors import DataError
from aream.infer import ImageCams, ScaleMaps
from workers.files.cams import read_cams, write_cams


def image(identifier: str) -> ImageCams:
    maps = torch.rand(3, 2, 4, 5)
    return ImageCams(
        identifier, (30, 40), (1, 4), (ScaleMaps(maps, (1.0, 1.0)), ScaleMaps(maps + 1, (0.5, 0.75), (15, 30), True))
    )


def view(**changes):
    return {"covered": [1.0, 1.0], "size": None, "mirrored": False, "exponents": [1, 1]} | changes


@pytest.fixture
def cams(tmp_path):
    folder = tmp_path / "cams"
    folder.mkdir()
    write_cams(folder, [image("a"), image("b")])
    return folder


def test_what_is_written_is_read(cams):
    found = list(read_cams(cams))
    assert [(cam.image_id, cam.size, cam.classes) for cam in found] == [(i, (30, 40), (1, 4)) for i in "ab"]
    assert found[1].combine([0]).shape == (2, 30, 40)


def test_a_line_without_end_is_not_read_into_memory(cams):
    (cams / "index.jsonl").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(DataError, match="has a line of more than 1048576 bytes"):
        list(read_cams(cams))


def test_an_index_that_is_missing_or_a_pipe(cams):
    (cams / "index.jsonl").unlink()
    with pytest.raises(DataError, match="no such file"):
        list(read_cams(cams))
    os.mkfifo(cams / "index.jsonl")
    with pytest.raises(DataError, match="is not a regular file"):
        list(read_cams(cams))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), powers=st.lists(st.integers(-120, 120), min_size=2, max_size=2))
def test_maps_of_any_size_keep_eleven_bits(tmp_path_factory, seed, powers):
    """Against a double loop over classes and values, each rounded by itself."""
    folder = tmp_path_factory.mktemp("cams")
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 2, 4, 5, generator=generator) * torch.tensor([2.0**power for power in powers])[:, None, None]
    write_cams(folder, [dataclasses.replace(image("a"), scales=(ScaleMaps(maps, (1.0, 1.0)),))])
    (found,) = read_cams(folder)
    assert found.scales[0].maps.dtype == torch.float32
    for index in range(2):
        largest = float(maps[:, index].max())
        for before, after in zip(maps[:, index].flatten(), found.scales[0].maps[:, index].flatten(), strict=True):
            step = max(2.0 ** (math.frexp(float(before))[1] - 11), 2.0 ** (math.frexp(largest)[1] - 24))
            assert abs(float(before) - float(after)) <= step / 2


def test_maps_of_nothing_stay_nothing(tmp_path):
    write_cams(tmp_path, [dataclasses.replace(image("a"), scales=(ScaleMaps(torch.zeros(3, 2, 4, 5), (1.0, 1.0)),))])
    (found,) = read_cams(tmp_path)
    assert not found.scales[0].maps.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "../a"}, "'../a' is not an image id"),
        ({"id": "a/0"}, "is not an image id"),
        ({"id": "a\0"}, "is not an image id"),
        ({"id": 5}, "need a str"),
        ({"id": "c"}, "holds no CAMs of c"),
        ({"shard": "../../cams-00000.safetensors"}, "is not the name of a shard"),
        ({"shard": "/etc/passwd"}, "is not the name of a shard"),
        ({"shard": "cams-00007.safetensors"}, "cams-00007.safetensors: holds no CAMs"),
        ({"shard": "index.jsonl"}, "is not the name of a shard"),
        ({"size": [10**9, 10**9]}, "at most 67108864 pixels"),
        ({"size": [30, -1]}, "need a height and width"),
        ({"size": [30]}, "need a height and width"),
        ({"size": [30, 4.5]}, "need a int"),
        ({"size": None}, "is not a CAM index"),
        ({"classes": [1, 255]}, "need ascending classes"),
        ({"classes": [1, 1]}, "need ascending classes"),
        ({"classes": [-1, 1]}, "need ascending classes"),
        ({"classes": [1, 2, 3], "views": [view(exponents=[1, 1, 1])] * 2}, "need float16 of shape"),
        ({"classes": [True, 2]}, "need a int"),
        ({"views": [view(covered=[1e-300, 1.0]), view()]}, "need shares"),
        ({"views": [view(covered=[float("nan"), 1.0])]}, "need shares"),
        ({"views": []}, "need shares"),
        ({"views": [view()] * 3}, "holds no CAMs"),
        ({"views": [view(size=[0, 10]), view()]}, "need sizes"),
        ({"views": [view(size=[10**9, 10]), view()]}, "need sizes"),
        ({"views": [view(size=[10]), view()]}, "need sizes"),
        ({"views": [view(size=[10.5, 10]), view()]}, "not a CAM index"),
        ({"views": [view(mirrored=1), view()]}, "not a CAM index"),
        ({"views": [view(exponents=[1]), view()]}, "need an exponent"),
        ({"views": [view(exponents=[1, 10**9]), view()]}, "need an exponent in -148..128"),
        ({"views": [view(exponents=[1, 0.5]), view()]}, "need a int"),
        ({"views": [view(exponents=None), view()]}, "not a CAM index"),
    ],
    ids=lambda value: None,
)
def test_a_manipulated_index_is_refused(cams, change, message):
    lines = [json.loads(line) for line in (cams / "index.jsonl").read_text().splitlines()]
    lines[1] |= change
    (cams / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError) as caught:
        list(read_cams(cams))
    assert message in str(caught.value)
    assert str(cams) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["\n", "[" * 100_000, "{}x", "5", '"text"', "[5]", "null", '{"id": ' + "9" * 6000 + "}"]
)
def test_an_index_that_is_none(cams, text):
    (cams / "index.jsonl").write_text(text)
    with pytest.raises(DataError, match="is not a CAM index"):
        list(read_cams(cams))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 1, 4, 5, dtype=torch.float16),
        torch.zeros(3, 2, 20, dtype=torch.float16),
        torch.zeros(3, 2, 4, 5, dtype=torch.int64),
        torch.zeros(3, 2, 4, 5),
        torch.zeros(3, 2, 0, 5, dtype=torch.float16),
    ],
    ids=["classes", "axes", "integers", "single", "empty"],
)
def test_maps_of_another_shape_are_refused(cams, tensor):
    save_file({f"{i}/{scale}": tensor.clone() for i in "ab" for scale in "01"}, cams / "cams-00000.safetensors")
    with pytest.raises(DataError, match="need float16 of shape"):
        list(read_cams(cams))


def test_a_pickle_as_a_shard_is_not_executed(cams, tmp_path):
    (cams / "cams-00000.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))
    with pytest.raises(DataError, match="holds no CAMs"):
        list(read_cams(cams))
    torch.save(Payload(tmp_path / "pwned"), cams / "cams-00000.safetensors")
    with pytest.raises(DataError, match="holds no CAMs"):
        list(read_cams(cams))
    assert not (tmp_path / "pwned").exists()


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(["index.jsonl", "cams-00000.safetensors"]), st.integers(0, 999), st.integers(0, 255)),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_cams_are_read_or_refused(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("cams")
    write_cams(folder, [image("a")])
    for name, place, value in changes:
        content = bytearray((folder / name).read_bytes())
        content[place % len(content)] = value
        (folder / name).write_bytes(content)
    said = ""
    try:
        for found in read_cams(folder):
            found.combine([])
    except DataError as error:
        said = str(error)
    assert len(said) < 2000
