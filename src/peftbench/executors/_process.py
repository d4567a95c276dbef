"""A worker as a process of its own: `peftbench exec STORE -`, started, given ids, listened to and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_LAST_BYTES = 8192
_LAST_WORDS_SECONDS = 1.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def environment(place: int, gpus: list[str]) -> dict[str, str]:
    """The environment of the worker at a place: one CPU thread unless the user's says otherwise, and one GPU."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    # A library that crashes leaves the line it was called from.
    default = {**dict.fromkeys(_THREADS, threads), "PYTHONFAULTHANDLER": "1"}
    # What can be imported here can be imported there.
    own = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    return {**default, **os.environ, **own}


class WorkerProcess:
    """A running worker; `hear` is called in a thread with each event it tells, and with None at its end."""

    def __init__(
        self, store: Path, settings: Mapping[str, str], hear: Callable[[Mapping[str, Any] | None], None]
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "peftbench", "exec", str(store), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(settings),
            encoding="utf-8",
            # Ctrl-C is for the command alone, which stops its workers; otherwise they would seem to have died.
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(hear,), daemon=True)
        self._listener.start()
        self._watcher = threading.Thread(target=self._watch, args=(hear,), daemon=True)
        self._watcher.start()

    def give(self, run_id: str) -> None:
        """Name the next run."""
        assert self._process.stdin is not None
        # A process that has died meanwhile is heard of as one.
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{run_id}\n")
            self._process.stdin.flush()

    def said(self) -> int:
        """Bytes it has written to standard error so far."""
        return os.fstat(self._errors.fileno()).st_size

    def words(self, since: int = 0) -> str:
        """What it wrote to standard error, the last of it when it was much. Only for one that has ended."""
        end = self.said()
        self._errors.seek(max(since, end - _LAST_BYTES))
        return self._errors.read().decode("utf-8", "replace").strip()

    def ended(self) -> str:
        """How it ended: `ended by SIGKILL`, `ended with exit code 3`."""
        code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        known = {item.value: item.name for item in signal.Signals}
        return f"ended by {known.get(-code, f'signal {-code}')}"

    def terminate(self) -> None:
        """Ask it to stop; what it does is lost."""
        self._process.terminate()

    def stop(self, patience_seconds: float) -> None:
        """See that it is gone."""
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._process.wait()
        self._watcher.join(patience_seconds)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._errors.close()

    def _listen(self, hear: Callable[[Mapping[str, Any] | None], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as events:
            for line in events:
                # A line that its end has cut short tells nothing.
                with contextlib.suppress(ValueError):
                    hear(json.loads(line))

    def _watch(self, hear: Callable[[None], None]) -> None:
        """Tell of the end, after the last event."""
        self._process.wait()
        # A process that it has forked would keep its output open, and write into its last words.
        self._kill_group()
        self._listener.join(_LAST_WORDS_SECONDS)
        hear(None)

    def _kill_group(self) -> None:
        """The group that it leads outlives it while a process of the group does."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
