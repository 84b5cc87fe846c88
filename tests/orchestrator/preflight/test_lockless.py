"""File systems that keep no locks are named, wherever a lock is asked for."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from aream.errors import ConfigError
from orchestrator.preflight.sweep_folder import locked
from orchestrator.workspace import Workspace
from workers.processes.file_lock import FileLock


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def lockless(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_lock(lockless, tmp_path):
    with FileLock(tmp_path / "lock") as lock:
        for attempt in (lock.try_shared, lock.try_exclusive, lambda: lock.take_exclusive("x")):
            with pytest.raises(ConfigError, match="keeps no locks"):
                attempt()


def test_a_sweeps_folder(lockless, tmp_path):
    place = Workspace(None, tmp_path / "runs", "s")
    with pytest.raises(ConfigError, match="runs/s/lock: its file system keeps no locks"), locked(place):
        pass
