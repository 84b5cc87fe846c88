"""Access to Ray: our own listens on this machine only and asks for a token; another one is sent its token.

Both are variables that Ray reads once, when it is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aream.errors import ConfigError

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
REFUSED_TOKEN = re.compile(r"InvalidAuthToken|Unauthenticated|AuthenticationError|Invalid authentication token")


def keep_own_ray_private() -> None:
    """Make the Ray that this process starts listen on loopback only, and let in who knows a token made for it alone.

    Asked for 127.0.0.1, Ray takes the machine's own address and listens on all; only the switch by which it avoids the
    firewall's questions on laptops keeps it from that.

    Raises:
        ConfigError: Ray is imported already, and would listen on every address.
    """
    if "ray" in sys.modules:
        raise ConfigError(
            "Ray was imported before this command began (by a sitecustomize.py or a .pth file?) and has read its"
            " settings: it would listen on every address of this machine; take that import away, or give --address"
        )
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ[MODE], os.environ[TOKEN] = "token", secrets.token_hex(32)


def send_token_to_cluster() -> None:
    """Send this user's token, if any, to the Ray that this process joins; a Ray that asks for none accepts it."""
    if token_source() is None or MODE in os.environ:
        return
    os.environ[MODE] = "token"
    if "ray" in sys.modules:  # by a sitecustomize.py, say: it has read its settings, and is told to read them again
        importlib.import_module("ray._raylet").Config.initialize("")


def token_source() -> str | None:
    """The place where Ray finds this user's token; None: there is none."""
    if os.environ.get(TOKEN):
        return TOKEN
    with contextlib.suppress(RuntimeError):  # no home
        for path in (os.environ.get(TOKEN_FILE), "~/.ray/auth_token"):
            if path and Path(path).expanduser().is_file():
                return str(Path(path).expanduser())
    return None


def token_advice() -> str:
    """Advice for when a cluster refuses this process for its token."""
    mode, source = os.environ.get(MODE, "token"), token_source()
    if mode != "token":
        return f"it asks for a token, which {MODE}={mode} does not send: unset that variable"
    if source is None:
        return f"it asks for a token: put it into ~/.ray/auth_token, or its file's name into {TOKEN_FILE}"
    return f"it refuses the token of {source}"


@contextlib.contextmanager
def said_below_python() -> Iterator[Path]:
    """Collect what the body and Ray's own code write to standard error; yields the file, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stderr"
        sys.stderr.flush()
        before = os.dup(2)
        try:
            with path.open("wb") as file:
                os.dup2(file.fileno(), 2)
            yield path
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
