"""A PostgreSQL server on loopback whose user needs a password."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextlib.contextmanager
def running(user: str, password: str) -> Iterator[int]:
    """Yields its port; the database is called postgres."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port()
    as_root = os.geteuid() == 0
    if as_root:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str | Path) -> None:
        who = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid} if as_root else {}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, **who)
        assert done.returncode == 0, done.stderr

    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    binary, data = BINARIES[-1], folder / "data"
    run(binary / "initdb", "-D", data, "-A", "scram-sha-256", "-U", user, f"--pwfile={folder / 'password'}")
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(binary / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
    try:
        yield port
    finally:
        run(binary / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
