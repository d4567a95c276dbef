"""In this process, one run after the other."""

from __future__ import annotations

from collections.abc import Sequence

from peftbench.executors._executor import Watcher
from peftbench.executors._worker import Worker, warmed_up
from peftbench.store import Store


def inline(store: Store, run_ids: Sequence[str], watcher: Watcher, *, again: bool = False) -> None:
    """Do the runs here; the base model stays loaded from one to the next. `again` does those that ended well, too.

    What another process is doing comes last: by then it is over, or that process is waited for, or it has died.
    """
    before = {run_id: store.get(run_id) for run_id in run_ids}
    with warmed_up() as bench:
        worker = Worker(store, watcher, bench, again)
        held = [run_id for run_id in run_ids if not worker.do(run_id, before[run_id])]
        for run_id in held:
            worker.do(run_id, before[run_id], wait=True)


EXECUTOR = inline
