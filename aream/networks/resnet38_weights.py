"""Published weights of ResNet-38: MXNet's ImageNet file, and PyTorch files with PSA's names."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from aream.errors import DataError
from aream.networks.checkpoint import fit_state_dict, read_state_dict
from aream.networks.mxnet_params import read_params
from aream.networks.resnet38 import ResNet38

_MXNET = re.compile(
    r"(?:arg:|aux:)?(?:"
    r"(?P<stem>conv1a)|(?P<last>bn7)|(?P<head>linear1000)"
    r"|(?P<kind>res|bn)(?P<stage>\d)(?:a|b(?P<index>\d+))_(?P<branch>branch\d[a-z]?\d?)"
    r")_(?P<part>weight|bias|gamma|beta|moving_mean|moving_var)"
)
_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
_HEADS = ("fc8", "f8_3", "f8_4", "f8_5", "f9")
"""Names of the heads of the classifier, the segmenter and AffinityNet, beside the trunk in their files."""


def load_resnet38(trunk: ResNet38, path: str | Path, key: str | None = None) -> None:
    """Fill the trunk from ``*.params`` (``ilsvrc-cls_rna-a1_cls1000_ep-0001``) or a PyTorch file with PSA's names
    (``res38_cls.pth``, ``resnet38_aff.pth``); what such a file holds of heads is left out.

    Raises:
        DataError: the file cannot be read, or anything is missing, left over or of another shape.
    """
    fit_state_dict(
        trunk,
        read_resnet38(path, key),
        str(path),
        drop=lambda name, value: name.split(".")[0].startswith(_HEADS),
    )


def read_resnet38(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Read what such a file holds, by PSA's names.

    Args:
        key: of the state dict in a PyTorch file that holds several.

    Raises:
        DataError: the file cannot be read.
    """
    return from_mxnet(read_params(path), str(path)) if Path(path).suffix == ".params" else read_state_dict(path, key)


def from_mxnet(arrays: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """PSA's names for MXNet's; the ImageNet classifier ``linear1000`` is left out.

    ``res2a_branch2a_weight`` is ``b2.conv_branch2a.weight``, ``bn2b1_branch2a_gamma`` is ``b2_1.bn_branch2a.weight``.

    Raises:
        DataError: a name that no ResNet-38 has, or two for one parameter.
    """
    state: dict[str, Tensor] = {}
    for name, value in arrays.items():
        found = _MXNET.fullmatch(name)
        if found is None:
            raise DataError(f"{origin}: {name[:80]!r} is no parameter of ResNet-38")
        if found["head"]:
            continue
        part = _PARTS.get(found["part"], found["part"])
        if found["kind"]:
            block = f"b{found['stage']}" + (f"_{found['index']}" if found["index"] else "")
            module = f"{block}.{'conv' if found['kind'] == 'res' else 'bn'}_{found['branch']}"
        else:
            module = found["stem"] or found["last"]
        if f"{module}.{part}" in state:
            raise DataError(f"{origin}: {name[:80]!r} is a second {module}.{part}")
        state[f"{module}.{part}"] = value
    return state
