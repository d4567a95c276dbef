"""The contract of an executor, tried with tiny runs of which one cannot succeed."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from peftbench import registry
from peftbench.errors import PeftbenchError
from peftbench.executors._executor import Executor, Watcher
from peftbench.executors.inline import inline
from peftbench.plan import PlannedRun, make_plan
from peftbench.record import Record
from peftbench.spec import Resources, Suite
from peftbench.store import Store
from peftbench.tasks.sst2 import TASK
from peftbench.testing.check import Check, Probe, examine, refused
from peftbench.testing.models import save_tiny

_ROWS = 10


@dataclass
class _Subject:
    """An executor, three runs it is given, and one that is described beside them and not given.

    The second run cannot succeed: its data is gone.
    """

    execute: Executor
    given: tuple[PlannedRun, ...]
    other: PlannedRun
    store: Store
    reference: Store
    begun: list[str] = field(default_factory=list)
    astray: list[str] = field(default_factory=list)
    told: list[Record] = field(default_factory=list)

    def moves(self, run_id: str, phase: str, done: int, total: int) -> None:
        """Hear how far a run is."""
        del phase, done, total
        if run_id not in self.begun:
            self.astray.append(run_id)

    @property
    def ids(self) -> list[str]:
        """Ids of the runs given, in order."""
        return [run.run_id for run in self.given]

    @property
    def recorded(self) -> list[str]:
        """Ids of the runs that have a record."""
        return [run_id for run_id in self.ids if self.store.get(run_id) is not None]


def examine_executor(executor: str | Executor) -> tuple[Check, ...]:
    """The checks of an executor: a name, the path of a file, or the executor itself."""
    try:
        execute: Executor = registry.load("executors", executor).value if isinstance(executor, str) else executor
    except PeftbenchError as error:
        return refused(error)
    code = execute if inspect.isroutine(execute) else type(execute)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="peftbench-check-") as scratch:
        try:
            return examine(_subject(execute, Path(scratch)), PROBES, inspect.getsourcefile(code))
        finally:
            torch.set_num_threads(threads)


def _subject(execute: Executor, scratch: Path) -> _Subject:
    first, second, third, other = _runs(scratch)
    lost = second.resources.updated({"data_root": str(scratch / "gone")}, "resources")
    given = (first, PlannedRun(second.spec, lost), third)
    subject = _Subject(execute, given, other, Store(scratch / "store"), Store(scratch / "reference"))
    for store in (subject.store, subject.reference):
        for run in (*given, other):
            store.describe(run.spec, run.resources)
    return subject


def _runs(scratch: Path) -> tuple[PlannedRun, ...]:
    """Three short trainings and one run without training, on rows that are written here."""
    mirror = scratch / "data" / "sst2"
    mirror.mkdir(parents=True)
    for split in ("train", "validation"):
        lines = [json.dumps(dict(TASK.specimen[place % 2])) for place in range(_ROWS)]
        (mirror / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked = {
        "tasks": ["sst2"],
        "models": [str(save_tiny("llama", scratch / "model"))],
        "methods": ["lora", "zero_shot"],
        "seeds": [1, 2, 3],
        "train": {"max_steps": 2, "per_device_train_batch_size": 2},
        "evaluate": {"max_new_tokens": 2, "limit": 3},
    }
    how = Resources(device="cpu", threads=1, data_root=str(mirror.parent))
    one, two, three, without = make_plan(Suite.parse(asked, "the check"), how).runs
    return one, two, without, three


def _nothing(subject: _Subject) -> str | None:
    subject.execute(subject.store, [], Watcher())
    done = subject.store.records()
    return f"Given no runs, it did {done[0].run_id}." if done else None


def _returns(subject: _Subject) -> str | None:
    subject.execute(subject.store, subject.ids, Watcher(subject.begun.append, subject.moves, subject.told.append))
    return None


def _records(subject: _Subject) -> str | None:
    missing = [run_id for run_id in subject.ids if run_id not in subject.recorded]
    return f"When it returned, {missing[0]} had no record." if missing else None


def _only_given(subject: _Subject) -> str | None:
    done = subject.store.get(subject.other.run_id) is not None
    return "It did a run that was described beside the others and not given." if done else None


def _failure(subject: _Subject) -> str | None:
    for place, run_id in enumerate(subject.ids):
        record = subject.store.get(run_id)
        if record is not None and (record.failure is not None) != (place == 1):
            if record.failure is None:
                return "The run whose data is gone has a record without a failure."
            return f"{run_id} failed beside the one that has to: {record.failure.message}"
    return None


def _tells(subject: _Subject) -> str | None:
    for word, told in (("begins", subject.begun), ("is done", [record.run_id for record in subject.told])):
        counts = Counter(told)
        odd = [run_id for run_id in (*subject.recorded, *counts) if counts[run_id] != 1]
        if odd:
            return f"The watcher was told {counts[odd[0]]} times that {odd[0]} {word}."
    if subject.astray:
        return f"The watcher was told how far {subject.astray[0]} is before it was told that it begins."
    differing = [record.run_id for record in subject.told if record != subject.store.get(record.run_id)]
    return f"The watcher was told of another record of {differing[0]} than the stored one." if differing else None


def _untouched(subject: _Subject) -> str | None:
    for run in (*subject.given, subject.other):
        if subject.store.asked(run.run_id) != (run.spec, run.resources):
            return f"What was asked for in {run.run_id} is not what it was."
    return None


def _same_answers(subject: _Subject) -> str | None:
    inline(subject.reference, subject.ids, Watcher())
    for run_id in _comparable(subject):
        if list(subject.store.predictions(run_id)) != list(subject.reference.predictions(run_id)):
            return f"{run_id} has other predictions than when it is done in this process."
    return None


def _comparable(subject: _Subject) -> Sequence[str]:
    """The runs that have predictions here and there."""
    stores = (subject.store, subject.reference)
    return [run_id for run_id in subject.ids if all(store.state(run_id) == "done" for store in stores)]


PROBES: tuple[Probe[_Subject], ...] = (
    Probe("nothing to do", "Given no runs, it does none.", "Return when there are no ids.", _nothing),
    Probe(
        "returns",
        "It returns, also when a run fails.",
        "Leave faults of a run to `execute`, which records them.",
        _returns,
        vital=True,
    ),
    Probe("records", "When it returns, every run has a record.", "Wait for every run that was given.", _records),
    Probe("only given", "It does the runs it is given, and no other.", "Go by the ids.", _only_given),
    Probe(
        "failure",
        "A run that fails is recorded as failed, and the rest goes on.",
        "Do every run with `execute`, or with `peftbench exec STORE RUN_ID`.",
        _failure,
    ),
    Probe(
        "tells",
        "The watcher is told once that a run begins and once that it is done, with its record.",
        "Call `watcher.begin` before and `watcher.done` after each run; give `watcher.progress` its id.",
        _tells,
    ),
    Probe("untouched", "What was asked for stays as it was described.", "Write no spec and no resources.", _untouched),
    Probe(
        "same answers",
        "A run gives the predictions that it gives in this process.",
        "Pass spec and resources on as they are.",
        _same_answers,
    ),
)
