"""Commands that are started, looked at while they work, and killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2e.command import environment

# A shell starts what runs in its background with Ctrl-C ignored, and that would be inherited.
_HEEDS = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
_RUNS = "runpy.run_module('peftbench', run_name='__main__')"


def started(*arguments: str | Path, folder: Path | None = None) -> subprocess.Popen[str]:
    """A command in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-c", _HEEDS + _RUNS, *map(str, arguments)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=folder, start_new_session=True
    )


def waited(until: Callable[[], object], seconds: float = 90) -> bool:
    """Whether something came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if until():
            return True
        time.sleep(0.05)
    return False


def children(parent: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(above) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(process: int) -> bool:
    """Whether a process lives."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def stop(process: subprocess.Popen[str]) -> None:
    """Leave nothing behind when a test fails in the middle."""
    process.kill()
    if process.stderr is not None and not process.stderr.closed:
        process.communicate()
