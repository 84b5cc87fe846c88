"""The system's error numbers by what another try would meet."""

from __future__ import annotations

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of a full disk, or of a user who has used up his quota."""
LASTING = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
        errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EFBIG,
        errno.ENOTEMPTY, errno.ENOSYS, errno.EOPNOTSUPP,
    }
)  # fmt: skip
"""Of names, kinds and permissions of files, which are as they are until somebody changes them."""
