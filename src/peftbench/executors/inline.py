"""In this process, one run after the other."""

from __future__ import annotations

from collections.abc import Sequence

from peftbench.executors._executor import Watcher
from peftbench.store import Store


def inline(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    """Do the runs here; the base model stays loaded from one to the next."""
    from peftbench.runner import execute
    from peftbench.workbench import Workbench

    bench = Workbench()
    for run_id in run_ids:
        watcher.begin(run_id)
        spec, resources = store.asked(run_id)
        watcher.done(execute(spec, resources, store, bench, watcher.progress))


EXECUTOR = inline
