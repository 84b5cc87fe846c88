"""Weights and checkpoints that mean harm."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payload import Payload
from safetensors.torch import save_file
from torch import nn

from aream.backbones import mctformer_v2
from aream.errors import DataError
from aream.networks.checkpoint import fit_state_dict, read_state_dict, weights_fingerprint
from aream.segmenters import deeplab
from workers.artifacts.storages.file import FolderStorage
from workers.checkpoint import NUMBER_BYTES, CheckpointFile

CONFIG = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 1, "heads": 2}


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        read_state_dict(path)
    assert len(str(caught.value)) < 1000
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.bin", "weights.safetensors"])
def test_weights_that_would_run_code_are_refused(tmp_path, zipped, name):
    state = {"model": {"a": torch.zeros(1)}, "optimizer": Payload(tmp_path / "pwned")}
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert "cannot be read as weights" in refused(tmp_path / name)
    assert not (tmp_path / "pwned").exists()
    (tmp_path / name).rename(tmp_path / "trusted.pth")
    torch.load(tmp_path / "trusted.pth", weights_only=False)  # the payload works where pickles are trusted
    assert (tmp_path / "pwned").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))
    refused(tmp_path / "weights.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.zeros(1).expand(10**6, 10**6)},
        {"a": torch.zeros(3, device="meta")},
        {"a": torch.eye(3).to_sparse()},
        {"a": 3},
        {},
        [torch.zeros(1)],
        {"model": {"state_dict": {"model": {}}}},
    ],
    ids=["endless view", "no numbers", "sparse", "number", "empty", "list", "nested"],
)
def test_states_that_hold_no_weights(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth")


@pytest.mark.parametrize("shape", [(1, 12), (12,), (1, 1, 1), (0, 1, 12), (1, 0, 12), (1, 7, 12)])
@pytest.mark.parametrize("name", ["cls_token", "pos_embed"])
def test_weights_of_any_shape_fit_or_are_refused(tmp_path, name, shape):
    host = mctformer_v2.build(mctformer_v2.Config(**CONFIG), 3, 224)
    state = host.state_dict()
    state["cls_token"] = state["cls_token"][:, :1].clone()
    state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="other shape"):
        mctformer_v2.build(mctformer_v2.Config(weights=str(tmp_path / "weights.pth"), **CONFIG), 3, 224)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nowhere"])
def test_weights_that_are_no_file(tmp_path, kind):
    path = tmp_path / "weights.pth"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    refused(path)
    words = "no such weight file" if kind == "nowhere" else "is not a regular file"
    assert words in refused(path)
    with pytest.raises(DataError, match=words):
        weights_fingerprint(str(path), "x")


def test_links_in_a_circle_are_no_weights(tmp_path):
    (tmp_path / "weights.pth").symlink_to("weights.pth")
    assert "is not a regular file" in refused(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value * float("nan"),
        lambda value: value / 0,
        lambda value: value.to(torch.complex64),
        lambda value: value.to(torch.int8),
        lambda value: value.bool(),
    ],
    ids=["nan", "infinite", "complex", "integers", "truths"],
)
def test_numbers_that_are_no_weights_are_refused(tmp_path, change):
    host = nn.Linear(2, 2)
    with pytest.raises(DataError, match=r"weight.pth.*another kind of number: weight \(1\)"):
        fit_state_dict(host, host.state_dict() | {"weight": change(torch.ones(2, 2))}, "weight.pth")
    encoder = deeplab.Config(encoder="resnet10t", output_stride=None, level=2, rates=(1,), channels=4)
    state = deeplab.build(encoder, 3, 32).encoder.state_dict()
    torch.save(state | {"conv1.0.weight": change(state["conv1.0.weight"])}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"another kind of number: conv1\.0\.weight \(1\)"):
        deeplab.build(dataclasses.replace(encoder, weights=str(tmp_path / "weights.pth")), 3, 32)


def test_halves_are_weights():
    host = nn.Linear(2, 2)
    fit_state_dict(host, {name: value.half() for name, value in host.state_dict().items()}, "weight.pth")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_and_doubled_parameters_are_refused(tmp_path):
    torch.save({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "weights.pth")
    assert "not a tensor whose numbers" in refused(tmp_path / "weights.pth")
    torch.save({"a": torch.ones(3), "module.a": torch.zeros(3)}, tmp_path / "weights.pth")
    assert "parameters twice" in refused(tmp_path / "weights.pth")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pickle", "saved", "legacy", "junk", "empty", "endless"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_with_a_right_digest_is_still_not_executed(tmp_path, kind):
    """Whoever can write the file can write its digest."""
    storage = FolderStorage(tmp_path)
    checkpoint = CheckpointFile(storage, "train_cam-0123456789abcdef", tmp_path)
    checkpoint.save({"epoch": 1})
    assert checkpoint.load() == {"epoch": 1}
    (path,) = tmp_path.rglob("*.pt")
    buffer, payload = io.BytesIO(), Payload(tmp_path / "pwned")
    if kind in ("saved", "legacy"):
        torch.save({"epoch": payload}, buffer, _use_new_zipfile_serialization=kind == "saved")
    written = {
        "pickle": pickle.dumps(payload),
        "junk": b"\x80\x04" + bytes(range(256)),
        "empty": b"",
        "endless": b"(" * 10**6,
    }.get(kind, buffer.getvalue())
    content = (2).to_bytes(NUMBER_BYTES, "big") + written
    path.write_bytes(hashlib.sha256(content).digest() + content)
    assert CheckpointFile(storage, "train_cam-0123456789abcdef", tmp_path).load() is None
    assert not (tmp_path / "pwned").exists()


def weights(folder) -> dict[str, bytes]:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "a.safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["zip.pth", "legacy.pth", "a.safetensors"]),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 2000),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_weights_are_read_or_refused(tmp_path_factory, name, changes, cut):
    folder = tmp_path_factory.mktemp("weights")
    content = bytearray(weights(folder)[name])
    for place, value in changes:
        content[place % len(content)] = value
    (folder / name).write_bytes(content[: len(content) if cut is None else cut])
    said = ""
    module = nn.Module()
    module.a, module.b = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))
    try:
        fit_state_dict(module, read_state_dict(folder / name), name)
    except DataError as error:
        said = str(error)
    assert len(said) < 2000
