"""A lock on a file that the kernel gives free when its holder dies, however it died, in whichever container.

For folders of one machine: over a network file system a lock may mean less than it says.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path

from aream.errors import ConfigError
from aream.system_errors import FULL
from workers.processes.atomic_write import naming

log = logging.getLogger(__name__)

LOOK_S = 0.1
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
"""Error numbers of file systems without locks."""


class FileLock:
    """Lock on a file, not held until taken; a context that ends by giving it back."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        os.close(self.descriptor)

    def try_shared(self) -> bool:
        """Try to take it shared; an exclusive one is given up, and another process may have had it in between."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        if not self._try(fcntl.LOCK_EX):
            return False
        try:
            with naming(self.path):
                os.ftruncate(self.descriptor, 0)
                os.pwrite(self.descriptor, json.dumps(f"pid {os.getpid()} on {socket.gethostname()}").encode(), 0)
        except OSError as error:
            if error.errno not in FULL:  # it is held all the same, and may be what room is made under
                raise
        return True

    def removed(self) -> bool:
        """True if its file is gone, and whoever opens the path now locks another one."""
        try:
            return not os.path.samestat(os.fstat(self.descriptor), os.stat(self.path))
        except FileNotFoundError:
            return True

    def take_exclusive(self, purpose: str) -> None:
        """Wait for it, saying once for whom."""
        if self.try_exclusive():
            return
        log.info("%s: waiting for %s", purpose, self.holder())
        while not self.try_exclusive():
            time.sleep(LOOK_S)

    def holder(self) -> str:
        """The process that last held it exclusively, for people."""
        try:
            return str(json.loads(os.pread(self.descriptor, 4096, 0)))
        except ValueError:
            return "another process"

    def used(self) -> None:
        os.utime(self.descriptor)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise ConfigError(
                    f"{self.path}: its file system keeps no locks ({error.strerror}); mount it with them (Lustre:"
                    " -o flock, NFS: with lockd), or name a folder on another one"
                ) from error
            raise
        return True
