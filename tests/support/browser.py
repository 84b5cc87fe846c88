"""A real browser for what people look at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def screenshots(folder: Path) -> Path:
    """Where pictures for the documentation go: the folder that AREAM_SCREENSHOTS names, else ``folder``."""
    return Path(os.environ.get("AREAM_SCREENSHOTS", folder))
