"""Locks that a process holds and that end with it, however it ends."""

from __future__ import annotations

import errno
import sys
import time
from typing import IO


def lock_file(file: IO[bytes], *, wait: bool) -> bool:
    """Lock a file until it is closed; False when another process has it.

    Where a file system knows no locks, and on Windows, nobody is kept out.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    # Asking whether a file is locked locks it for an instant, so one refusal says nothing yet.
    for pause in (0.0,) if wait else (0.01, 0.04, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
            continue
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
        return True
    return False
