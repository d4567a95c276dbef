"""One run after the other with one warm bench: what `inline` does, and what a worker process does for others."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from peftbench.errors import PeftbenchError
from peftbench.executors._executor import Watcher
from peftbench.progress import Throttle
from peftbench.record import Record
from peftbench.store import Store

if TYPE_CHECKING:
    from peftbench.workbench import Workbench

Event = Mapping[str, str | int | bool]
_SECONDS_BETWEEN_EVENTS = 0.25


@dataclass(frozen=True)
class Worker:
    """Does one run after the other; the base model stays loaded from one to the next."""

    store: Store
    watcher: Watcher
    bench: Workbench
    again: bool = False

    def do(self, run_id: str, before: Record | None, *, wait: bool = False) -> bool:
        """Do a run, unless another process has done it since `before` was its record; False when one is at it."""
        from peftbench.runner import execute

        if wait:
            self.watcher.begin(run_id)
            self.watcher.progress(run_id, "another process is at it", 0, 0)
        with self.store.claim(run_id, wait=wait) as mine:
            if not mine:
                return False
            if not wait:
                self.watcher.begin(run_id)
            record = self.store.get(run_id)
            if record is None or (record == before and (record.failure or self.again)):
                spec, resources = self.store.asked(run_id)
                progress = partial(self.watcher.progress, run_id)
                record = execute(spec, resources, self.store, self.bench, progress)
            self.watcher.done(record)
        return True


def serve(store: Store, lines: Iterable[str], tell: Callable[[Event], None]) -> bool:
    """Do the runs named in `lines`, each before the next line is read; whether all of them ended well.

    `tell` is given an event when the libraries are loaded (`ready`), when a run begins (`begin`), moves on (`progress`,
    a few times a second) and ends (`done`), when another process has it (`held`: it is left to that process), and when
    nothing more can be done (`error`, which is raised as well).

    Raises:
        StoreProblem: a run is not described, or its record cannot be written.
    """
    failed: set[str] = set()
    with warmed_up() as bench:
        worker = Worker(store, _telling(tell, failed), bench)
        tell({"event": "ready"})
        try:
            for name in filter(None, map(str.strip, lines)):
                run_id = store.find(name)
                if not worker.do(run_id, store.get(run_id)):
                    tell({"event": "held", "run_id": run_id})
        except PeftbenchError as error:
            tell({"event": "error", "message": error.message, "fix": error.fix})
            raise
    return not failed


@contextlib.contextmanager
def warmed_up() -> Iterator[Workbench]:
    """An empty bench, and all libraries loaded: whoever gives out runs may count on a worker that is ready."""
    # Our own first: it says which libraries are to be quiet when they are loaded.
    from peftbench.workbench import Workbench

    import peft  # noqa: F401  # isort: skip

    # A process that has frozen something itself is left alone.
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.collect()
        # What is here now stays until the end: searching it for garbage before each phase would take a quarter of a
        # second.
        gc.freeze()
    try:
        yield Workbench()
    finally:
        # The process may be somebody's own, where that which was frozen can become garbage.
        if ours:
            gc.unfreeze()


def _telling(tell: Callable[[Event], None], failed: set[str]) -> Watcher:
    throttle = Throttle(_SECONDS_BETWEEN_EVENTS)

    def begin(run_id: str) -> None:
        tell({"event": "begin", "run_id": run_id})

    def progress(run_id: str, phase: str, done: int, total: int) -> None:
        if throttle.due(phase):
            tell({"event": "progress", "run_id": run_id, "phase": phase, "done": done, "total": total})

    def done(record: Record) -> None:
        if record.failure:
            failed.add(record.run_id)
        tell({"event": "done", "run_id": record.run_id, "failed": record.failure is not None})

    return Watcher(begin, progress, done)
