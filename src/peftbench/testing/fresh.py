"""A process that has never seen the adapter it loads.

One server imports the libraries and forks a process for every job, so that each starts with nothing but them. Where
processes cannot be forked, the server does the jobs itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import IO, Any, Literal, Self


@dataclass(frozen=True)
class Job:
    """Load the adapter of a method onto a model and write what it answers to the file `output`.

    `load` names a member or a file, or `module:class`. `what` is `logits` (through the method) or `answers` (through
    the `peft` library alone).
    """

    model: str
    load: str
    settings: dict[str, Any]
    adapter: str
    output: str
    what: Literal["logits", "answers"] = "logits"


class FreshProcess:
    """Does jobs in fresh processes; used as a context manager. The server starts with the first job."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._errors is not None:
            self._server.communicate()
            self._errors.close()
            self._server = self._errors = None

    def do(self, job: Job) -> str:
        """Do a job; the fault as a sentence, or nothing when there was none."""
        server = self._started()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps(asdict(job)) + "\n")
            server.stdin.flush()
        except BrokenPipeError:
            return self._last_words()
        reply = server.stdout.readline()
        return str(json.loads(reply)) if reply else self._last_words()

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed on exit
            # What can be imported here can be imported there.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._server = subprocess.Popen(
                [sys.executable, "-m", "peftbench.testing.reload"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=environment,
            )
        return self._server

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"the fresh process ended: {lines[-1] if lines else 'without a word'}"
