"""Freed memory stays in the process, until it is given back: seen in what the system says is resident."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")

# Blocks that are part of the heap, all freed; then what is resident above what was at first, in MiB.
SCRIPT = """
import ctypes
from pathlib import Path
from peftbench import heap
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024

{first}
before = resident()
blocks = [library.malloc(2**20) for _ in range(200)]
for block in blocks:
    ctypes.memset(block, 1, 2**20)
for block in blocks:
    library.free(block)
print(resident() - before)
heap.give_back()
print(resident() - before)
"""


def residents(first: str, **environment: str) -> tuple[int, int]:
    command = [sys.executable, "-c", SCRIPT.format(first=first)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(command, env={**clean, **environment}, check=True, capture_output=True, text=True)
    kept, left = map(int, done.stdout.split())
    return kept, left


def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    kept, left = residents("heap.keep()")
    assert kept >= 190
    assert left < 20


def test_it_is_given_back_at_once_by_the_library_itself() -> None:
    assert residents("")[0] < 20


def test_whoever_set_the_library_up_is_left_alone() -> None:
    assert residents("heap.keep()", MALLOC_TRIM_THRESHOLD_="0")[0] < 20
