"""Weight files of Conformers: the ImageNet model's, TransCAM's and AReAM's, brought to the names of the first."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from aream.errors import DataError

HEADS = ("conv_cls_head.weight", "conv_cls_head.bias", "trans_cls_head.weight", "trans_cls_head.bias")
AREAM_HEADS = {"cnn_head": "conv_cls_head", "att_head": "trans_cls_head"}


def adapt(
    state: dict[str, Tensor], *, classes: int, head: Literal["aream", "transcam"], cls_double: bool, origin: str
) -> dict[str, Tensor]:
    """The state with this project's head names and outputs, without heads where they are ImageNet's.

    A linear ``conv_cls_head`` is the ImageNet model's: both heads are left out, by name and shape. A convolution with
    one output more than there are classes is TransCAM's, whose output 0 no loss ever saw: it is left out of both heads.
    Deviates from TransCAM, which keeps that output in the network.

    Raises:
        DataError: heads of another kind than the configured one, or that were trained without doubling.
    """
    if "cnn_head.weight" in state:
        if cls_double:
            raise DataError(
                f"{origin}: holds AReAM's heads, trained without doubling the class token; set backbone.cls_double to "
                "false"
            )
        state = {_renamed(name): value for name, value in state.items()}
    maps = state.get("conv_cls_head.weight")
    if maps is None:
        return state
    if maps.ndim == 2:
        return {name: value for name, value in state.items() if name not in HEADS}
    kernel = 3 if head == "transcam" else 1
    if maps.shape[-1] != kernel:
        other = "transcam" if head == "aream" else "aream"
        raise DataError(
            f"{origin}: its CAM head is a convolution over {tuple(maps.shape[2:])}, while backbone.head is {head}; "
            f"set it to {other}"
        )
    if head == "transcam" and len(maps) == classes + 1:
        return {name: value[1:] if name in HEADS else value for name, value in state.items()}
    return state


def _renamed(name: str) -> str:
    head, dot, rest = name.partition(".")
    return AREAM_HEADS.get(head, head) + dot + rest
