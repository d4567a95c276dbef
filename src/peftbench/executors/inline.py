"""In this process, one run after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench.executors._executor import Watcher
from peftbench.record import Record
from peftbench.store import Store

if TYPE_CHECKING:
    from peftbench.workbench import Workbench


def inline(store: Store, run_ids: Sequence[str], watcher: Watcher, *, again: bool = False) -> None:
    """Do the runs here; the base model stays loaded from one to the next. `again` does those that ended well, too.

    What another process is doing comes last: by then it is over, or that process is waited for, or it has died.
    """
    from peftbench.workbench import Workbench

    worker = _Worker(store, watcher, Workbench(), {run_id: store.get(run_id) for run_id in run_ids}, again)
    held = [run_id for run_id in run_ids if not worker.do(run_id)]
    for run_id in held:
        worker.do(run_id, wait=True)


@dataclass(frozen=True)
class _Worker:
    """Does one run after the other; `before` holds the records there were when it began."""

    store: Store
    watcher: Watcher
    bench: Workbench
    before: dict[str, Record | None]
    again: bool

    def do(self, run_id: str, *, wait: bool = False) -> bool:
        """Do a run, unless another process has done it meanwhile; False when one is at it."""
        from peftbench.runner import execute

        if wait:
            self.watcher.begin(run_id)
            self.watcher.progress("another process is at it", 0, 0)
        with self.store.claim(run_id, wait=wait) as mine:
            if not mine:
                return False
            if not wait:
                self.watcher.begin(run_id)
            record = self.store.get(run_id)
            if record is None or (record == self.before[run_id] and (record.failure or self.again)):
                spec, resources = self.store.asked(run_id)
                record = execute(spec, resources, self.store, self.bench, self.watcher.progress)
            self.watcher.done(record)
        return True


EXECUTOR = inline
