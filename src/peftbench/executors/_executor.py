"""What an executor is: it takes ids of runs that a store describes, has each done, and tells of every record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from peftbench.record import Record
from peftbench.store import Store


@dataclass(frozen=True)
class Watcher:
    """What is told while runs are done: a run begins, a phase of it moves on, its record is there.

    `progress` gets the id of the run, the phase, and how many of how many steps or examples are done. Several runs may
    be at work at once; one call is made at a time.
    """

    begin: Callable[[str], None] = lambda run_id: None
    progress: Callable[[str, str, int, int], None] = lambda run_id, phase, done, total: None
    done: Callable[[Record], None] = lambda record: None


class Executor(Protocol):
    """Has runs done, those without a record and those that failed. When it returns, every run has a record."""

    def __call__(self, store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
        """Do the runs of these ids.

        Raises:
            StoreProblem: a record cannot be written.
        """
