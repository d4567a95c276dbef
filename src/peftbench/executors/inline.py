"""In this process, one run after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftbench.executors._executor import Watcher
from peftbench.store import Store

if TYPE_CHECKING:
    from peftbench.workbench import Workbench


def inline(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    """Do the runs here; the base model stays loaded from one to the next.

    What another process is doing comes last: by then it is done, or that process is waited for, or it has died.
    """
    from peftbench.workbench import Workbench

    bench = Workbench()
    held = [run_id for run_id in run_ids if not _do(store, run_id, bench, watcher)]
    for run_id in held:
        _do(store, run_id, bench, watcher, wait=True)


def _do(store: Store, run_id: str, bench: Workbench, watcher: Watcher, *, wait: bool = False) -> bool:
    """Do one run unless it is done; False when another process is at it."""
    from peftbench.runner import execute

    if wait:
        watcher.begin(run_id)
        watcher.progress("another process is at it", 0, 0)
    with store.claim(run_id, wait=wait) as mine:
        if not mine:
            return False
        if not wait:
            watcher.begin(run_id)
        record = store.get(run_id)
        if record is None or record.failure:
            spec, resources = store.asked(run_id)
            record = execute(spec, resources, store, bench, watcher.progress)
        watcher.done(record)
    return True


EXECUTOR = inline
