"""Files of tensors, whose libraries tell of a disk without room in ways of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from workers.processes.atomic_write import naming

SYSTEM_ERROR = re.compile(r"os error (\d+)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: naming the file.
    """
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        if found := SYSTEM_ERROR.search(str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what ``torch.load`` reads with ``weights_only``.

    Raises:
        OSError: naming the file.
    """
    with naming(path), path.open("wb") as file:  # given a path, torch raises a RuntimeError
        torch.save(dict(state), file)
