"""Files of another user, as in a folder that a group shares: whose they are, and what to change."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from pathlib import Path

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def permission_advice(path: Path) -> str:
    """Describe who may write a file or folder that this user may not, and how to change that."""
    with contextlib.suppress(OSError):
        while not path.exists() and path != path.parent:
            path = path.parent
    try:
        found = path.stat()
    except OSError:
        return "its owner and rights cannot be read"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} lies on a file system that may only be read: mount it for writing, or choose another folder"
    mode = stat.filemode(found.st_mode)
    return (
        f"{path} belongs to {user_name(found.st_uid)} ({mode}) and this is {user_name(os.geteuid())}: its owner may run"
        f" `chmod -R g+rwX` on the folder of both (and `umask 002` before a sweep), or choose another folder"
    )


def user_name(uid: int) -> str:
    """The name of a user, or the uid if no name is known, as in a container."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
