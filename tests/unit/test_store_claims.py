"""One process at a time does a run; what another one has done is not done again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peftbench import runner
from peftbench.errors import StoreProblem
from peftbench.executors._executor import Watcher
from peftbench.executors.inline import inline
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from unit.samples import record, run_spec

ONE, TWO = run_spec(seed=1), run_spec(seed=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for spec in (ONE, TWO):
        store.describe(spec, Resources())
    return store


def test_a_claim_excludes_others_until_it_ends(store: Store) -> None:
    with store.claim(ONE.run_id) as mine:
        assert mine
        with Store(store.path).claim(ONE.run_id) as other, store.claim(TWO.run_id) as elsewhere:
            assert (other, elsewhere) == (False, True)
    with store.claim(ONE.run_id) as again:
        assert again


def test_a_claim_ends_with_its_process(store: Store) -> None:
    script = (
        "import os, sys; from peftbench.store import Store\n"
        "with Store(sys.argv[1]).claim(sys.argv[2]) as mine:\n"
        "    print(mine, flush=True); sys.stdin.read(); os._exit(9)"
    )
    command = [sys.executable, "-c", script, str(store.path), ONE.run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == "True"
        with store.claim(ONE.run_id) as mine:
            assert not mine
        process.stdin.close()
        with store.claim(ONE.run_id, wait=True) as mine:
            assert mine
        assert process.wait() == 9


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_there_are_no_claims(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with store.claim(ONE.run_id) as one, store.claim(ONE.run_id) as other:
        assert one
        assert other


def test_another_fault_of_a_lock_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreProblem, match="input/output error"), store.claim(ONE.run_id):
        pass


@contextlib.contextmanager
def elsewhere(store: Store, leaves: Record | None) -> Iterator[threading.Event]:
    """The first run is claimed elsewhere until the event is set; then it has left this record there, or nothing."""
    held, release = threading.Event(), threading.Event()

    def work() -> None:
        with store.claim(ONE.run_id):
            held.set()
            assert release.wait(20)
            if leaves is not None:
                store.put(leaves)

    other = threading.Thread(target=work)
    other.start()
    assert held.wait(20)
    yield release
    other.join()


def test_what_another_process_does_is_left_to_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first run is held elsewhere, the second one is done; then its record is taken over, not made."""
    done: list[object] = []
    told: list[Record] = []
    with elsewhere(store, record(ONE, 0.75)) as release:

        def execute(spec: object, *rest: object) -> Record:
            done.append(spec)
            store.put(record(TWO))
            release.set()
            return record(TWO)

        monkeypatch.setattr(runner, "execute", execute)
        inline(store, [ONE.run_id, TWO.run_id], Watcher(done=told.append))
    assert done == [TWO]
    assert told == [record(TWO), record(ONE, 0.75)]


@pytest.mark.parametrize(
    ("leaves", "done"), [(None, [ONE]), (record(ONE, None), [])], ids=["it died", "the run failed there"]
)
def test_a_run_is_taken_over_only_from_the_dead(
    store: Store, monkeypatch: pytest.MonkeyPatch, leaves: Record | None, done: list[object]
) -> None:
    """A failure is a record like any other; `--retry` is what asks for more."""
    calls: list[object] = []
    told: list[Record] = []

    def execute(spec: object, *rest: object) -> Record:
        calls.append(spec)
        return record(ONE)

    monkeypatch.setattr(runner, "execute", execute)
    with elsewhere(store, leaves) as release:
        inline(store, [ONE.run_id], Watcher(begin=lambda run_id: release.set(), done=told.append))
    assert calls == done
    assert told == [leaves or record(ONE)]


@pytest.mark.parametrize(
    ("stored", "again", "done"),
    [
        ("nothing", False, True),
        ("failed", False, True),
        ("failed", True, True),
        ("done", False, False),
        ("done", True, True),
    ],
)
def test_what_is_done_once_more(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, stored: str, again: bool, done: bool
) -> None:
    calls: list[object] = []

    def execute(spec: object, *rest: object) -> Record:
        calls.append(spec)
        return record(ONE, 0.9)

    if stored != "nothing":
        store.put(record(ONE, 0.5 if stored == "done" else None))
    monkeypatch.setattr(runner, "execute", execute)
    inline(store, [ONE.run_id], Watcher(), again=again)
    assert calls == ([ONE] if done else [])


def test_looking_does_not_get_in_the_way(store: Store) -> None:
    """Whoever asks for the state of a run locks it for an instant; a claim is not refused for that."""
    store.folder(ONE.run_id).log.touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            assert store.state(ONE.run_id) in {"started", "running"}

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(300):
            with store.claim(ONE.run_id) as mine:
                assert mine
    finally:
        stop.set()
        watcher.join()


def test_a_lock_that_cannot_be_looked_at_is_no_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    store.folder(ONE.run_id).log.touch()
    store.folder(ONE.run_id).claim.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert store.state(ONE.run_id) == "started"
