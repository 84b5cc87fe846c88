"""Reading published weight files: nothing in them is executed, and a partial fit is refused."""

from __future__ import annotations

import functools
import hashlib
import logging
import pickle
import re
import struct
import types
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aream.config import EMBEDDED, PRETRAINED
from aream.data.files import unreadable
from aream.errors import ConfigError, DataError

log = logging.getLogger(__name__)

COUNTER = "num_batches_tracked"
"""Last part of the name of a batch norm's count of batches. Nothing reads it, and older files, such as torchvision's,
have none."""
NUMBERED = re.compile(r"(.*?\.)(\d+)(\..*)", re.DOTALL)
USUAL = ("model", "model.state_dict", "state_dict", "state_dict.model")
"""Keys under which a training file has the weights that it is about, the first that there is."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What training programs put before all names: data parallel ones, compiled models, Lightning's modules."""
EMBEDDED_FILE = Path(__file__).parent / "embedded" / "shapes_vit.safetensors"
"""A ViT of 8 layers, dimension 64, 4 heads, patches of 8 pixels on a 12 x 12 grid, from drawn scenes of another seed
(``benchmarks/embedded_weights.py``)."""


def check_weights_key(weights: str | None, key: str | None) -> None:
    """Raises ``ConfigError`` where there is a key and no file to look it up in."""
    if key is not None and weights in (None, PRETRAINED, EMBEDDED):
        raise ConfigError(f"weights_key: {key!r} is looked up in a file of weights, and weights is {weights or 'null'}")


def weight_file(weights: str | Path) -> Path:
    return EMBEDDED_FILE if weights == EMBEDDED else Path(weights)


def read_state_dict(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a state dict, or the one of a file that holds it beside other things; strips ``module.``, and what wraps all
    names (``WRAPPERS``).

    Args:
        key: of the state dict in a file that holds several, such as ``model_ema`` or ``teacher``, with dots between
            where it lies deeper; None: the only one, else ``model`` or ``state_dict``, which is then said.

    Raises:
        DataError: no such file, not a checkpoint, one that would run code when read, no state dict of that key, or
            several without either of the usual names.
    """
    path = weight_file(path)
    refuse_no_file(path)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            # Some published files carry the namespace of their command line: plain data, read as such.
            namespace = (types.SimpleNamespace, "argparse.Namespace")
            with torch.serialization.safe_globals([namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, SafetensorError, struct.error, zipfile.BadZipFile, MemoryError, OverflowError),
        *(RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError, AttributeError, AssertionError),
    ) as error:  # what torch and safetensors raise at damaged files
        # torch's own text advises to load without weights_only, which would run what the file says.
        words = (
            f"cannot be read as weights ({type(error).__name__}); "
            "need a safetensors file, or a state dict as torch.save writes it without other objects"
        )
        raise unreadable(path, error, words) from error
    content = _chosen(path, _state_dicts(content), key)
    for name, value in content.items():
        # A file of a few bytes can hold a tensor that is a view without end of one number.
        held = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not held or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise DataError(f"{path}: {str(name)[:80]!r} is not a tensor whose numbers the file holds")
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    if len(state) < len(content):
        raise DataError(f"{path}: holds parameters twice, with and without module. before their names")
    return _unwrapped(state)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrappers that all names have in common, however many."""
    while found := next((one for one in WRAPPERS if state and all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(found): value for name, value in state.items()}
    return state


def refuse_no_file(path: Path) -> None:
    """Raises ``DataError`` where there is nothing, or something else than a file, which may never end."""
    if not path.is_file():
        there = path.exists() or path.is_symlink()
        raise DataError(f"{path}: {'is not a regular file, or a link to none' if there else 'no such weight file'}")


def _state_dicts(content: object, place: str = "", deep: int = 2) -> dict[str, dict[Any, Tensor]]:
    """Every mapping of names to tensors, by the keys that lead to it; empty text: the whole file."""
    if not isinstance(content, dict) or not content:
        return {}
    if all(isinstance(value, Tensor) for value in content.values()):
        return {place: content}
    found = {}
    for key, value in content.items() if deep else ():
        found.update(_state_dicts(value, f"{place}.{key}" if place else str(key), deep - 1))
    return found


def _chosen(path: Path, found: dict[str, dict[Any, Tensor]], key: str | None) -> dict[Any, Tensor]:
    if not found:
        raise DataError(f"{path}: holds no state dict (a mapping of names to tensors)")
    names = ", ".join(name or "the file as a whole" for name in found)
    if key is not None:
        if key not in found:
            raise DataError(f"{path}: holds no state dict {key!r} (weights_key); it holds {names}")
        return found[key]
    usual = [name for name in USUAL if name in found]
    if len(found) > 1 and not usual:
        raise DataError(f"{path}: holds several state dicts, {names}; say which in weights_key")
    taken = usual[0] if usual else next(iter(found))
    if len(found) > 1:
        log.warning("%s: of the state dicts %s, %s is taken; weights_key takes another", path, names, taken)
    return found[taken]


def fit_state_dict(
    module: torch.nn.Module,
    state: dict[str, Tensor],
    origin: str,
    *,
    new: Iterable[str] = (),
    drop: Callable[[str, Tensor], bool] = lambda name, value: False,
) -> None:
    """Load ``state`` so that every parameter is accounted for; batch norms may be without their counts of batches.

    Args:
        new: parameters that may be missing (a head that is new to this task).
        drop: entries of the file that are not wanted (its ImageNet head).

    Raises:
        DataError: listing names missing, left over, of another shape, or with values that are no weights; all of them,
            those of layers that differ in a number alone together.
    """
    kept = {name: value for name, value in state.items() if not drop(name, value)}
    own = module.state_dict()
    missing = sorted(name for name in set(own) - set(kept) - set(new) if name.rpartition(".")[2] != COUNTER)
    unexpected = sorted(set(kept) - set(own))
    shapes = [
        f"{name}: file {tuple(kept[name].shape)}, model {tuple(own[name].shape)}"
        for name in sorted(set(own) & set(kept))
        if own[name].shape != kept[name].shape
    ]
    strange = sorted(name for name in set(own) & set(kept) if not _are_weights(kept[name], own[name]))
    problems = [
        f"{title}: {', '.join(together(found))} ({len(found)})"
        for title, found in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("other shape", shapes),
            ("nan, infinite or of another kind of number", strange),
        )
        if found
    ]
    if problems:
        raise DataError(f"{origin}: does not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict(kept, strict=False)


def together(names: Iterable[str]) -> list[str]:
    """Names of parameters, those that differ in their first number alone as one: ``blocks.{0..11}.norm1.weight``."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        before, number, after = match.groups() if match else (name, "", "")
        numbers.setdefault((before, after), []).extend([int(number)] if number else [])
    return [f"{before}{_run(sorted(found))}{after}" for (before, after), found in numbers.items()]


def _run(numbers: list[int]) -> str:
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{{{f'{numbers[0]}..{numbers[-1]}' if whole else ','.join(map(str, numbers))}}}"


def _are_weights(value: Tensor, own: Tensor) -> bool:
    """Numbers that copying keeps, all of them finite: nothing can be trained from others."""
    if not own.is_floating_point():
        return not (value.is_floating_point() or value.is_complex())
    return value.is_floating_point() and bool(value.float().isfinite().all())


def weights_fingerprint(weights: str | None, model: str) -> str:
    """Identity of the initial weights: the content of a file, never its path.

    Raises:
        DataError: the file is missing or unreadable.
    """
    if weights is None:
        return "random"
    if weights == PRETRAINED:
        return f"timm:{model}"
    path = weight_file(weights)
    refuse_no_file(path)
    try:
        found = path.stat()
        return _digest(str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError as error:
        raise unreadable(path, error) from error


@functools.lru_cache(maxsize=64)
def _digest(path: str, *version: int) -> str:
    """Digest of a file that is as it was: a plan asks for every variant, and a file can have half a gigabyte."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
