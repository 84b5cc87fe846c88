from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import torch

from aream.errors import DataError
from aream.networks.mxnet_params import read_params
from aream.networks.resnet38 import ResNet38
from aream.networks.resnet38_weights import from_mxnet, load_resnet38

TINY = {"width": 2, "depths": (2, 1, 1, 2)}


def array(values: np.ndarray, layout: str, kind: int = 0) -> bytes:
    """One array as MXNet writes it, field by field."""
    head = {
        "legacy": lambda: struct.pack("<I", values.ndim) + struct.pack(f"<{values.ndim}I", *values.shape),
        "v1": lambda: struct.pack("<II", 0xF993FAC8, values.ndim) + struct.pack(f"<{values.ndim}q", *values.shape),
        "v2": lambda: struct.pack("<IiI", 0xF993FAC9, 0, values.ndim) + struct.pack(f"<{values.ndim}q", *values.shape),
    }[layout]()
    return head + struct.pack("<iii", 1, 0, kind) + values.tobytes()


def listed(arrays: list[bytes], names: list[str]) -> bytes:
    """A whole file; device 1 is the CPU."""
    named = b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)
    head = struct.pack("<QQQ", 0x112, 0, len(arrays))
    return head + b"".join(arrays) + struct.pack("<Q", len(names)) + named


def written(path, arrays: dict[str, np.ndarray], layout: str = "v2"):
    path.write_bytes(listed([array(values, layout) for values in arrays.values()], list(arrays)))
    return path


@pytest.mark.parametrize("layout", ["legacy", "v1", "v2"])
def test_every_layout_gives_the_numbers_back(tmp_path, layout):
    arrays = {
        "arg:a_weight": np.arange(24, dtype="<f4").reshape(2, 3, 2, 2) - 3.5,
        "aux:b_moving_mean": np.array([1.5, -2.0], dtype="<f4"),
    }
    found = read_params(written(tmp_path / "a.params", arrays, layout))
    assert list(found) == list(arrays)
    for name, expected in arrays.items():
        assert found[name].dtype == torch.float32
        np.testing.assert_array_equal(found[name].numpy(), expected)


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f4"), (1, "<f8"), (2, "<f2")])
def test_other_precisions_become_float32(tmp_path, kind, dtype):
    values = np.array([[0.5, -1.25]], dtype=dtype)
    (tmp_path / "a.params").write_bytes(listed([array(values, "v2", kind)], ["a"]))
    np.testing.assert_array_equal(read_params(tmp_path / "a.params")["a"].numpy(), [[0.5, -1.25]])


ONE = array(np.ones(2, dtype="<f4"), "v2")
HUGE = struct.pack("<IiI", 0xF993FAC9, 0, 2) + struct.pack("<qqiii", 2**40, 2**40, 1, 0, 0)
BAD = {
    "empty": (b"", "the head needs 16 bytes, 0 are left"),
    "other file": (b"PK\x03\x04" + bytes(60), "not a list of MXNet arrays (it begins with 0x4034b50, not 0x112)"),
    "many arrays": (struct.pack("<QQQ", 0x112, 0, 2**60) + bytes(100), f"{2**60} arrays in 100 bytes"),
    "no array": (struct.pack("<QQQQ", 0x112, 0, 0, 0), "0 arrays in 8 bytes"),
    "huge array": (listed([HUGE], ["a"]), f"array 1 of shape ({2**40}, {2**40}) needs {2**82} bytes, 17 are left"),
    "negative size": (
        listed([struct.pack("<IIqiii", 0xF993FAC8, 1, -4, 1, 0, 0)], ["a"]),
        "array 1: shape (-4,); need sizes of 1 and more",
    ),
    "no axis": (listed([struct.pack("<IiI", 0xF993FAC9, 0, 0) + bytes(20)], ["a"]), "array 1: 0 axes; need 1..32"),
    "many axes": (
        listed([struct.pack("<II", 0xF993FAC8, 2**31) + bytes(20)], ["a"]),
        f"array 1: {2**31} axes; need 1..32",
    ),
    "newer layout": (listed([struct.pack("<I", 0xF993FACA) + bytes(40)], ["a"]), "array 1: 4187224778 axes"),
    "sparse": (listed([struct.pack("<Ii", 0xF993FAC9, 2) + bytes(40)], ["a"]), "a sparse array (storage type 2)"),
    "whole numbers": (listed([array(np.ones(2, "<i4"), "v2", 4)], ["a"]), "array 1: numbers of type 4; known are"),
    "long name": (listed([ONE], [])[:-8] + struct.pack("<QQ", 1, 2**50), f"name 1: {2**50} bytes long; need 1..4096"),
    "cut name": (listed([ONE], ["abcdef"])[:-2], "name 1 needs 6 bytes, 4 are left"),
    "many names": (listed([ONE], [])[:-8] + struct.pack("<Q", 2**40), f"{2**40} names in 0 bytes"),
    "too few names": (listed([ONE, ONE], ["a"]), "2 arrays with 1 names"),
    "one name twice": (listed([ONE, ONE], ["a", "a"]), "duplicate name 'a'"),
    "no text": (listed([ONE], ["a"])[:-1] + b"\xff", "name 1 is no text"),
    "more than a list": (listed([ONE], ["a"]) + b"!!", "2 bytes after the last name"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_not_such_a_file_is_refused(tmp_path, content, message):
    (tmp_path / "bad.params").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_params(tmp_path / "bad.params")
    assert str(tmp_path / "bad.params") in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = listed([array(np.ones((2, 3), dtype="<f4"), layout) for layout in ("legacy", "v1", "v2")], ["a", "b", "c"])
    for length in range(len(whole)):
        (tmp_path / "cut.params").write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_params(tmp_path / "cut.params")


@pytest.mark.parametrize("name", ["absent.params", "."])
def test_no_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="no such weight file"):
        read_params(tmp_path / name)


def mxnet_name(name: str) -> str:
    """MXNet's name of a parameter of the trunk, by PSA's table."""
    module, part = name.rsplit(".", 1)
    part = {"running_mean": "moving_mean", "running_var": "moving_var"}.get(part, part)
    kind = "aux" if part.startswith("moving") else "arg"
    if "." not in module:  # conv1a, bn7
        return f"{kind}:{module}_{part if module == 'conv1a' else {'weight': 'gamma', 'bias': 'beta'}.get(part, part)}"
    block, layer = module.split(".")
    stage = f"{block[1]}b{block.split('_')[1]}" if "_" in block else f"{block[1]}a"
    family, branch = layer.split("_")
    if family == "bn":
        part = {"weight": "gamma", "bias": "beta"}.get(part, part)
    return f"{kind}:{'res' if family == 'conv' else 'bn'}{stage}_{branch}_{part}"


@pytest.fixture
def published():
    torch.manual_seed(0)
    source = ResNet38(**TINY)
    return {name: torch.randn_like(value) for name, value in source.state_dict().items() if "num_batches" not in name}


def test_imagenet_weights_reach_the_parameter_they_are_named_for(tmp_path, published):
    arrays = {mxnet_name(name): value.numpy() for name, value in published.items()}
    assert arrays.keys() >= {"arg:conv1a_weight", "arg:res2b1_branch2b1_weight", "aux:bn6a_branch2b2_moving_var"}
    arrays |= {"arg:linear1000_weight": np.ones((10, 128), "<f4"), "arg:linear1000_bias": np.ones(10, "<f4")}
    trunk = ResNet38(**TINY)
    load_resnet38(trunk, written(tmp_path / "a1.params", arrays))
    for name, value in published.items():
        assert torch.equal(trunk.state_dict()[name], value), name


def test_weights_with_psas_names_load_whole_and_their_heads_stay_out(tmp_path, published):
    extra = {"fc8.weight": torch.ones(20, 128, 1, 1), "f8_3.weight": torch.ones(1), "f9.weight": torch.ones(1)}
    torch.save({f"module.{name}": value for name, value in (published | extra).items()}, tmp_path / "res38_cls.pth")
    trunk = ResNet38(**TINY)
    load_resnet38(trunk, tmp_path / "res38_cls.pth")
    for name, value in published.items():
        assert torch.equal(trunk.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("b4.conv_branch1.weight"), r"missing: b4.conv_branch1.weight \(1\)"),
        (lambda state: state.update({"b9.conv.weight": torch.ones(1)}), r"unexpected: b9.conv.weight \(1\)"),
        (
            lambda state: state.update({"bn7.bias": torch.ones(7)}),
            r"other shape: bn7.bias: file \(7,\), model \(128,\)",
        ),
    ],
)
def test_a_partial_fit_is_refused(tmp_path, published, change, message):
    change(published)
    torch.save(published, tmp_path / "some.pth")
    with pytest.raises(DataError, match=rf"some.pth: does not fit ResNet38: .*{message}"):
        load_resnet38(ResNet38(**TINY), tmp_path / "some.pth")


def test_a_partial_mxnet_file_is_refused(tmp_path, published):
    arrays = {mxnet_name(name): value.numpy() for name, value in published.items() if not name.startswith("b6.")}
    with pytest.raises(DataError, match=r"does not fit ResNet38: missing: b6\.bn_branch2a\.bias"):
        load_resnet38(ResNet38(**TINY), written(tmp_path / "a1.params", arrays))


@pytest.mark.parametrize("name", ["arg:res2c_branch2a_weight", "arg:fc1_weight", "res2a_branch2a", "arg:bn7_gamma2"])
def test_names_of_other_networks_are_refused(name):
    with pytest.raises(DataError, match=f"x.params: '{name}' is no parameter of ResNet-38"):
        from_mxnet({name: torch.ones(1)}, "x.params")


def test_two_names_of_one_parameter_are_refused():
    with pytest.raises(DataError, match=r"is a second bn7\.weight"):
        from_mxnet({"arg:bn7_gamma": torch.ones(1), "aux:bn7_gamma": torch.ones(1)}, "x.params")
