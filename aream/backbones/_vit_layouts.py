"""Weight files of transformers: timm's layouts and those that timm's own filters know, brought to a model's names."""

from __future__ import annotations

import importlib
import inspect
import logging
from typing import Any

from torch import Tensor

from aream.backbones._timm_transformer import FAILURES
from aream.errors import DataError
from aream.networks.checkpoint import fit_state_dict

log = logging.getLogger(__name__)

NOT_OF_THE_TRUNK = ("head.", "head_dist.", "attn_pool.", "decoder_", "mask_token", "pre_logits.", "lm_head.")
"""Names that files hold besides: ImageNet classifiers, pooling for them, what a masked autoencoder draws with."""
WRAPPED = "backbone."
"""Prefix of the names of a network that was trained with a head of its own (DINO's ``teacher`` and ``student``)."""
POSITIONS = ("pos_embed", "positional_embedding")
"""Names of learnt positions, likewise."""
PATCHES = ("patch_embed.proj.weight", "visual.conv1.weight")
"""Names of what makes tokens of patches, in timm's layout and CLIP's."""


def fit_transformer(vit: Any, state: dict[str, Tensor], origin: str, *, resample_patches: bool) -> None:
    """Load a file's weights of a transformer; positions of another grid are resampled.

    Args:
        vit: a timm transformer without classifier.
        resample_patches: whether patches may be of another size than the file's, which then are resampled too.

    Raises:
        DataError: the file is of another network, in a layout that timm cannot read, or lacks something.
    """
    if any(name.startswith(WRAPPED) for name in state):
        state = {name.removeprefix(WRAPPED): value for name, value in state.items() if name.startswith(WRAPPED)}
    if not resample_patches:
        _refuse_other_patches(vit, state, origin)
    # timm's filters do not say which layout they found, and raise whatever comes of one that they do not know.
    read = importlib.import_module(type(vit).__module__).checkpoint_filter_fn
    before = _positions(state)
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(read).parameters else {}
    try:
        state = read(dict(state), vit, **options)
    except FAILURES as error:
        raise DataError(
            f"{origin}: timm cannot bring its layout to that of {type(vit).__name__} ({type(error).__name__}: {error})"
        ) from error
    if before is not None and (after := _positions(state)) not in (None, before):
        log.warning("%s: positions of %d tokens are interpolated to %d", origin, before, after)
    fit_state_dict(vit, _final_norm(vit, state), origin, drop=lambda name, _: name.startswith(NOT_OF_THE_TRUNK))


def _positions(state: dict[str, Tensor]) -> int | None:
    """Tokens that a file has positions of; None: it has none that are learnt."""
    positions = next((value for name, value in state.items() if name.endswith(POSITIONS)), None)
    return None if positions is None or positions.ndim < 2 else int(positions.shape[-2])


def _refuse_other_patches(vit: Any, state: dict[str, Tensor], origin: str) -> None:
    weight = getattr(vit.patch_embed.proj, "weight", None)  # some hybrids have none
    own = None if weight is None else tuple(weight.shape[2:])
    for name, value in state.items():
        if own and name.endswith(PATCHES) and value.ndim == 4 and value.shape[2:] != own:
            raise DataError(
                f"{origin}: patches of {name} have {value.shape[2]} x {value.shape[3]} pixels, the model's "
                f"{own[0]} x {own[1]}; name the model of the file in backbone.vit, or give backbone.patch_size, which "
                "patches are resampled to"
            )


def _final_norm(vit: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The norm after the blocks is called ``fc_norm`` where a classifier averages tokens before it."""
    own, other = ("norm.", "fc_norm.") if list(vit.norm.parameters()) else ("fc_norm.", "norm.")
    if any(name.startswith(own) for name in state):
        return state if own == "fc_norm." else {n: v for n, v in state.items() if not n.startswith("fc_norm.")}
    return {own + n.removeprefix(other) if n.startswith(other) else n: v for n, v in state.items()}
