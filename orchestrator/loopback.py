"""Keeping a local Ray to this machine: asked for 127.0.0.1, Ray takes the machine's own address and listens on all."""

from __future__ import annotations

import os
import sys


def keep_ray_on_loopback() -> None:
    """Make the Ray that this process starts listen on loopback only.

    Only the switch by which Ray avoids the firewall's questions on laptops does it, and Ray reads that once, when it is
    imported.

    Raises:
        RuntimeError: it is imported already.
    """
    if "ray" in sys.modules:
        raise RuntimeError("Ray is imported already: it would listen on every address of this machine")
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
