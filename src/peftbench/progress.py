"""How far a run is, in its folder, for whoever asks from another terminal.

Nothing depends on it: it is written seldom and by one rename, what cannot be written is left out, and what cannot be
read is not known.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from peftbench.spec import Value

Tell = Callable[[str, int, int], None]

_SECONDS = 1.0


class RunProgress(Value):
    """Where a run is: `done` of `total` steps or examples of a phase; `total` is 0 where nothing is counted."""

    phase: str
    done: int
    total: int


class Throttle:
    """Lets every new phase through, and within a phase one call in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._phase, self._next = seconds, "", 0.0

    def due(self, phase: str) -> bool:
        """Whether this call may pass."""
        now = time.monotonic()
        if phase == self._phase and now < self._next:
            return False
        self._phase, self._next = phase, now + self._seconds
        return True


def noted(path: Path, tell: Tell) -> Tell:
    """What is told is also written to a file, about once a second."""
    throttle = Throttle(_SECONDS)

    def note(phase: str, done: int, total: int) -> None:
        if throttle.due(phase):
            _write(path, RunProgress(phase=phase, done=done, total=total))
        tell(phase, done, total)

    return note


def read(path: Path) -> RunProgress | None:
    """What was written last, None when nothing can be read."""
    with contextlib.suppress(OSError, ValueError):
        return RunProgress.model_validate_json(path.read_bytes(), strict=True)
    return None


def _write(path: Path, progress: RunProgress) -> None:
    partial = path.with_name(f".{path.name}")
    # A run is not ended by a line that says how far it is.
    with contextlib.suppress(OSError):
        partial.write_text(progress.model_dump_json(), encoding="utf-8")
        partial.replace(path)
