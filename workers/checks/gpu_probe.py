"""Check that every visible GPU takes a tensor; run as a program, so that no worker keeps a CUDA context.

    python workers/checks/gpu_probe.py     # one line of JSON

``torch`` and ``torch_cuda`` (null: built without CUDA), ``driver_cuda`` (the newest CUDA that the driver knows; null:
no driver), ``gpus`` (names), ``error`` (what torch says; null: all of them work).
"""

from __future__ import annotations

import ctypes
import json

import torch


def probe() -> dict[str, object]:
    found: dict[str, object] = {
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "driver_cuda": None,
        "gpus": [],
        "error": None,
    }
    if torch.version.cuda is None:
        return found
    found["driver_cuda"] = driver_cuda()
    names: list[str] = []
    try:
        for index in range(torch.cuda.device_count()):
            names.append(torch.cuda.get_device_name(index))
            ones = torch.ones(1024, device=f"cuda:{index}")
            if float((ones + ones).sum()) != 2048.0:
                raise RuntimeError(f"cuda:{index} adds wrongly")
        if not names:
            torch.cuda.init()  # says why there is none
    except (RuntimeError, AssertionError) as error:  # torch's own for everything from drivers to memory
        found["error"] = " ".join(str(error).split())[:300]
    found["gpus"] = names
    return found


def driver_cuda() -> str | None:
    """The newest CUDA version that the installed driver knows; asks for no GPU."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


if __name__ == "__main__":
    print(json.dumps(probe()))
