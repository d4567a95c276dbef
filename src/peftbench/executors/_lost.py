"""The record of a run whose process died: nobody else is left to write it."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from peftbench import registry
from peftbench.environment import describe
from peftbench.errors import UsageError
from peftbench.record import Failure, Phase, Record
from peftbench.store import Store


@dataclass(frozen=True)
class Death:
    """How a process ended that did a run.

    `how` ends the sentence "The worker ..."; `during` is what it told of last; `words` is what it printed.
    """

    how: str
    during: str
    words: str
    since: str


def record_lost(store: Store, run_id: str, before: Record | None, death: Death) -> bool:
    """Record that a run failed with its process; False when another process has taken it up meanwhile.

    `before` is the record that the dead process was to replace; a newer one is left alone.

    Raises:
        StoreProblem: the record cannot be written.
    """
    with store.claim(run_id) as mine:
        if not mine:
            return False
        # Whoever begins a run gives up its old record first.
        if store.get(run_id) in (None, before):
            with contextlib.suppress(OSError), store.folder(run_id).log.open("a", encoding="utf-8") as log:
                log.write(f"{now()} the worker {death.how}\n{death.words}\n")
            # As after any fault: an adapter that was half written is not kept.
            shutil.rmtree(store.folder(run_id).adapter, ignore_errors=True)
            store.put(_record(store, run_id, death))
    return True


def now() -> str:
    """The time as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _record(store: Store, run_id: str, death: Death) -> Record:
    spec, resources = store.asked(run_id)
    task = resources.task_file or spec.task.name
    told: dict[str, Any] = {"headline": ""}
    # A task that cannot be read any more is not what this failure is about.
    with contextlib.suppress(UsageError):
        told = registry.load("tasks", task).value.in_records
    device = "cpu" if resources.device == "auto" else resources.device
    return Record(
        run_id=run_id,
        spec=spec,
        resources=resources,
        **told,
        environment=describe(device, resources.threads or 1),
        failure=Failure(
            phase=_phase(death.during),
            kind="WorkerDied",
            message=f"The worker {death.how}.",
            fix=_fix(death.how),
        ),
        started=death.since,
        finished=now(),
    )


def _phase(during: str) -> Phase:
    """`predict test` is told of while the phase is `predict`; FLOPs are counted when all else is saved."""
    word = "save" if during == "forward FLOPs" else during.partition(" ")[0]
    return next((phase for phase in get_args(Phase) if phase == word), "data")


def _fix(how: str) -> str:
    if "SIGKILL" in how:
        return "Was memory short? Then take fewer --workers. Again: --retry."
    return "What it printed is in the log of the run. Again: --retry."
