"""Every executor keeps every promise, and every check fails on an executor that breaks it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import pytest

from peftbench import registry
from peftbench.executors._executor import Executor, Watcher
from peftbench.executors._worker import warmed_up
from peftbench.executors.inline import inline
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.testing import check_executor
from peftbench.testing.executors import PROBES


@pytest.mark.parametrize("executor", registry.names("executors"))
def test_executor_keeps_its_promises(executor: str) -> None:
    assert not [check for check in check_executor(executor) if not check.passed]


def test_garbage_is_looked_for_everywhere_again() -> None:
    assert gc.get_freeze_count() == 0
    with warmed_up():
        assert gc.get_freeze_count() > 100_000
    assert gc.get_freeze_count() == 0


def drops_a_run(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids[:-1], watcher)


def does_all_it_finds(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids, watcher)
    if run_ids:
        inline(store, [run_id for run_id in store.run_ids() if run_id not in run_ids], Watcher())


def does_something_without_ids(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids or store.run_ids()[:1], watcher)


def stops_at_a_failure(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    def stop(record: Record) -> None:
        watcher.done(record)
        if record.failure:
            raise RuntimeError(record.failure.message)

    inline(store, run_ids, Watcher(watcher.begin, watcher.progress, stop))


def hides_failures(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    def hide(record: Record) -> None:
        shown = record.model_copy(update={"failure": None})
        store.put(shown)
        watcher.done(shown)

    inline(store, run_ids, Watcher(watcher.begin, watcher.progress, hide))


def tells_twice(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    def twice(record: Record) -> None:
        watcher.done(record)
        watcher.done(record)

    inline(store, run_ids, Watcher(watcher.begin, watcher.progress, twice))


def begins_nothing(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids, Watcher(done=watcher.done))


def tells_how_far_before_it_begins(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    for run_id in run_ids:
        watcher.progress(run_id, "data", 0, 0)
    inline(store, run_ids, watcher)


def tells_another_record(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    def other(record: Record) -> None:
        watcher.done(record.model_copy(update={"finished": "never"}))

    inline(store, run_ids, Watcher(watcher.begin, watcher.progress, other))


def rewrites_resources(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids, watcher)
    for run_id in run_ids:
        spec, _ = store.asked(run_id)
        store.describe(spec, Resources())


def changes_predictions(store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
    inline(store, run_ids, watcher)
    for run_id in run_ids[:1]:
        file = store.folder(run_id).predictions
        file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


BROKEN: tuple[tuple[str, Executor], ...] = (
    ("nothing to do", does_something_without_ids),
    ("returns", stops_at_a_failure),
    ("records", drops_a_run),
    ("only given", does_all_it_finds),
    ("failure", hides_failures),
    ("tells", tells_twice),
    ("tells", begins_nothing),
    ("tells", tells_another_record),
    ("tells", tells_how_far_before_it_begins),
    ("untouched", rewrites_resources),
    ("same answers", changes_predictions),
)


@pytest.mark.parametrize(
    ("breaks", "executor"), BROKEN, ids=[f"{place}-{name}" for place, (name, _) in enumerate(BROKEN)]
)
def test_broken_executor_fails_one_check(breaks: str, executor: Executor) -> None:
    failed = [check for check in check_executor(executor) if not check.passed]
    assert [check.name for check in failed] == [breaks], failed
    assert failed[0].fix


def test_every_check_is_shown_to_fail() -> None:
    assert {probe.name for probe in PROBES} == {name for name, _ in BROKEN}


def test_what_is_no_executor_is_one_failed_check() -> None:
    (check,) = check_executor("inlined")
    assert not check.passed
    assert "inline" in check.fix


def test_fault_of_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def mine(store, run_ids, watcher):\n    return run_ids[0][-99]\n\nEXECUTOR = mine\n", encoding="utf-8"
    )
    failed = [check for check in check_executor(str(file)) if not check.passed]
    assert failed[0].detail.startswith("mine.py, line 2: IndexError")
