"""Memory that was freed: kept for the next step of a run, and given back to the system between its phases.

The C library of Linux hands what is free at the end of its heap back at once, and the next step of training takes it
again, page by page, each to be cleared by the system. That costs up to a tenth of a step.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

# From <malloc.h>: free bytes at the end of the heap from which on they are given back, and bytes of a block from which
# on it is no part of the heap. The library moves both up by itself, the second as far as this; to set one ends that.
_TRIM, _APART = -1, -3
_NEVER, _MOST_APART = 2**31 - 1, 32 * 2**20


def keep() -> None:
    """Have what is freed from now on kept in this process.

    Whoever set the library up by its environment is left alone; so are other libraries.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM, _NEVER)
        library.mallopt(_APART, _MOST_APART)


def give_back() -> None:
    """Give back all that is free."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
