"""In worker processes on this machine, several runs at a time."""

from __future__ import annotations

import os
import queue
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.errors import ExecutorProblem, StoreProblem
from peftbench.executors._executor import Watcher
from peftbench.executors._lost import Death, now, record_lost
from peftbench.executors._order import Needs, choose, needs
from peftbench.executors._process import WorkerProcess, environment
from peftbench.store import Store

_MOST = 8
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Local:
    """Runs are done by processes that keep model and rows from one run to the next.

    `workers` is how many; by default one for each GPU, else as many as the cores have room for, eight at most.
    """

    workers: int | None = None

    def __call__(self, store: Store, run_ids: Sequence[str], watcher: Watcher) -> None:
        """Do the runs; a worker that dies costs the run it had.

        Raises:
            StoreProblem: a record cannot be written.
            ExecutorProblem: workers cannot be started.
        """
        if not run_ids:
            return
        asked = {run_id: store.asked(run_id) for run_id in run_ids}
        devices = {how.device for _, how in asked.values()}
        gpus = _gpus() if devices & {"auto", "cuda"} else []
        threads = max(how.threads or 1 for _, how in asked.values())
        count = self.workers or len(gpus) or _room(devices, threads)
        seats = [_Seat(environment(place, gpus)) for place in range(min(count, len(run_ids)))]
        desk = _Desk(store, watcher, {run_id: needs(*what) for run_id, what in asked.items()}, seats)
        try:
            desk.work()
        finally:
            desk.close()


@dataclass(eq=False)
class _Seat:
    """The place of a worker: who sits there, what it does and what it has warm."""

    settings: Mapping[str, str]
    process: WorkerProcess | None = None
    ready: bool = False
    run_id: str | None = None
    begun: bool = False
    phase: str = ""
    since: str = ""
    said: int = 0
    warm: Needs | None = None

    def clear(self) -> None:
        """Forget the run."""
        self.run_id, self.begun, self.phase = None, False, ""


@dataclass
class _Desk:
    """Gives runs to workers and hears what becomes of them: one thread, one event after the other."""

    store: Store
    watcher: Watcher
    wanted: Mapping[str, Needs]
    seats: Sequence[_Seat]
    inbox: queue.Queue[tuple[_Seat, Event | None]] = field(default_factory=queue.Queue)
    told: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    problem: ExecutorProblem | None = None

    def __post_init__(self) -> None:
        self.before = {run_id: self.store.get(run_id) for run_id in self.wanted}
        self.waiting = list(self.wanted)
        self.held: deque[str] = deque()

    def work(self) -> None:
        """Until every run has a record, or nobody is left to do one."""
        for seat in self.seats:
            self._start(seat)
        while self._left() and any(seat.process for seat in self.seats):
            try:
                seat, event = self.inbox.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                pass
            else:
                self._hear(seat, event)
            for seat in self.seats:
                if seat.ready and seat.run_id is None:
                    self._occupy(seat)
        if self.problem is not None and self._left():
            raise self.problem

    def close(self) -> None:
        """Stop the workers; what one still does is lost."""
        there = [seat.process for seat in self.seats if seat.process]
        for process in there:
            process.terminate()
        for process in there:
            process.stop(_PATIENCE_SECONDS)

    def _left(self) -> bool:
        return bool(self.waiting or self.held) or any(seat.run_id for seat in self.seats)

    def _start(self, seat: _Seat) -> None:
        seat.ready, seat.warm = False, None
        seat.process = WorkerProcess(self.store.path, seat.settings, lambda event: self.inbox.put((seat, event)))

    def _occupy(self, seat: _Seat) -> None:
        """Give an idle worker a run, unless there is none, or only such as other commands have."""
        if not self.waiting:
            self._look_at_held()
        while self.waiting:
            others = {other.warm.base for other in self.seats if other is not seat and other.warm}
            run_id = choose(self.waiting, self.wanted, seat.warm, others)
            self.waiting.remove(run_id)
            if self.store.get(run_id) in (None, self.before[run_id]):
                assert seat.process is not None
                seat.run_id, seat.warm = run_id, self.wanted[run_id]
                seat.process.give(run_id)
                return
            self._tell_done(run_id)

    def _look_at_held(self) -> None:
        """Those that another command had: done there, or its process has died, or they are still waited for."""
        for run_id in [*self.held]:
            self._tell_begin(run_id, "another process is at it")
            with self.store.claim(run_id) as free:
                if free:
                    self.held.remove(run_id)
                    self.waiting.append(run_id)

    def _hear(self, seat: _Seat, event: Event | None) -> None:
        kind = event["event"] if event else "end"
        if event is None:
            self._bury(seat)
        elif kind == "ready":
            seat.ready = True
        elif kind == "error":
            raise StoreProblem(event["message"], event["fix"])
        elif seat.run_id is not None:
            self._hear_of_run(seat, seat.run_id, event)

    def _hear_of_run(self, seat: _Seat, run_id: str, event: Event) -> None:
        kind = event["event"]
        if kind == "begin":
            assert seat.process is not None
            seat.begun, seat.since, seat.said = True, now(), seat.process.said()
            self._tell_begin(run_id)
        elif kind == "progress":
            seat.phase = event["phase"]
            self.watcher.progress(run_id, seat.phase, event["done"], event["total"])
        elif kind == "held":
            seat.clear()
            self.held.append(run_id)
        elif kind == "done":
            seat.clear()
            self._tell_done(run_id)

    def _bury(self, seat: _Seat) -> None:
        """A worker has ended that nobody stopped: its run is recorded as failed, and another worker sits down."""
        process, run_id = seat.process, seat.run_id
        assert process is not None
        how = process.ended()
        words = process.words(seat.said if seat.begun else 0)
        ready, begun, during = seat.ready, seat.begun, seat.phase
        process.stop(_PATIENCE_SECONDS)
        seat.process = None
        seat.ready = False
        seat.clear()
        if not ready:
            last = words.splitlines()[-1] if words else "it said nothing"
            self.problem = ExecutorProblem(
                f"A worker {how} before it could take a run: {last.rstrip('.')}.",
                "The same command continues; --executor inline does without workers.",
            )
            return
        if run_id is not None:
            if not begun and run_id not in self.returned:
                # It died idle, before it read the line: not the fault of this run.
                self.returned.add(run_id)
                self.waiting.insert(0, run_id)
            elif record_lost(self.store, run_id, self.before[run_id], Death(how, during, words, seat.since or now())):
                self._tell_done(run_id)
            else:
                self.held.append(run_id)
        if self.waiting or self.held:
            self._start(seat)

    def _tell_begin(self, run_id: str, phase: str = "") -> None:
        if run_id not in self.told:
            self.told.add(run_id)
            self.watcher.begin(run_id)
            if phase:
                self.watcher.progress(run_id, phase, 0, 0)

    def _tell_done(self, run_id: str) -> None:
        record = self.store.get(run_id)
        assert record is not None
        self._tell_begin(run_id)
        self.watcher.done(record)


def _room(devices: Collection[str], threads: int) -> int:
    """How many workers a machine without CUDA has room for: one where they would share the GPU of a Mac."""
    if "mps" in devices or ("auto" in devices and sys.platform == "darwin"):
        return 1
    return min(_MOST, max(1, _cores() // threads))


def _cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The visible GPUs, as CUDA_VISIBLE_DEVICES names them. Only where there is a driver is torch asked."""
    if not any(Path("/dev", driver).exists() for driver in ("nvidiactl", "dxg", "kfd")):
        return []
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


EXECUTOR = Local()
