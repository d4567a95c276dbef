"""Who gets which run, how many workers there are, and what one is started with: without any process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench import verbs
from peftbench.errors import ExecutorProblem, StoreProblem, UsageError
from peftbench.executors import local
from peftbench.executors._executor import Watcher
from peftbench.executors._order import Needs, choose
from peftbench.executors._process import environment
from peftbench.executors.local import Local
from peftbench.spec import Resources
from peftbench.store import Store
from unit.samples import record, run_spec

SPECS = [run_spec(seed=seed) for seed in range(1, 5)]
IDS = [spec.run_id for spec in SPECS]
A1, A2, B1 = Needs("a", "1"), Needs("a", "2"), Needs("b", "1")


@pytest.mark.parametrize(
    ("warm", "elsewhere", "chosen"),
    [
        (None, set(), "a1"),
        (None, {"a"}, "b1"),
        (None, {"a", "b"}, "a1"),
        (A1, {"a"}, "a1"),
        (A2, {"a"}, "a2"),
        (B1, {"a", "b"}, "b1"),
        (Needs("b", "2"), set(), "b1"),
        (Needs("c", "1"), {"a"}, "b1"),
    ],
)
def test_what_is_warm_comes_first(warm: Needs | None, elsewhere: set[str], chosen: str) -> None:
    wanted = {"a1": A1, "a2": A2, "b1": B1}
    assert choose(list(wanted), wanted, warm, elsewhere) == chosen


NEEDS = st.builds(Needs, st.sampled_from("ab"), st.sampled_from("12"))


@given(st.lists(NEEDS, min_size=1, max_size=8), st.none() | NEEDS, st.sets(st.sampled_from("ab")))
def test_the_choice_is_the_first_of_its_kind(runs: list[Needs], warm: Needs | None, elsewhere: set[str]) -> None:
    wanted = {str(place): needed for place, needed in enumerate(runs)}
    chosen = choose(list(wanted), wanted, warm, elsewhere)
    assert int(chosen) == runs.index(wanted[chosen])
    if warm in runs:
        assert wanted[chosen] == warm


@dataclass
class Fake:
    """A worker without a process: `script` says what it tells of a run, and how it ends."""

    script: Callable[[Fake, str], None]
    store: Store
    settings: Mapping[str, str]
    hear: Callable[[Mapping[str, Any] | None], None]
    given: list[str] = field(default_factory=list)
    how: str = "ended by SIGKILL"

    def give(self, run_id: str) -> None:
        self.given.append(run_id)
        self.script(self, run_id)

    def tell(self, event: str, **more: object) -> None:
        self.hear({"event": event, **more})

    def said(self) -> int:
        return 0

    def words(self, since: int = 0) -> str:
        return "first\nlast word."

    def ended(self) -> str:
        return self.how

    def terminate(self) -> None: ...

    def stop(self, patience_seconds: float) -> None: ...


@dataclass
class Pool:
    """Local with fakes, and what came of it."""

    store: Store
    script: Callable[[Fake, str], None]
    ready: Callable[[Fake], None] = lambda fake: fake.tell("ready")
    workers: list[Fake] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def start(self, path: Path, settings: Mapping[str, str], hear: Callable[[Mapping[str, Any] | None], None]) -> Fake:
        assert len(self.workers) < 20, "endless restarts"
        self.workers.append(Fake(self.script, Store(path), settings, hear))
        self.ready(self.workers[-1])
        return self.workers[-1]

    def watcher(self) -> Watcher:
        return Watcher(
            lambda run_id: self.told.append(f"begin {IDS.index(run_id)}"),
            lambda run_id, phase, done, total: self.told.append(f"{phase} {IDS.index(run_id)}"),
            lambda record: self.told.append(f"{'failed' if record.failure else 'done'} {IDS.index(record.run_id)}"),
        )


def begins(fake: Fake, run_id: str) -> None:
    """As a worker begins a run: the old record goes first."""
    fake.tell("begin", run_id=run_id)
    fake.store.begin(*fake.store.asked(run_id))


def ends_well(fake: Fake, run_id: str) -> None:
    begins(fake, run_id)
    fake.store.put(record(fake.store.spec(run_id)))
    fake.tell("done", run_id=run_id)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    store = Store(tmp_path)
    for spec in SPECS:
        store.describe(spec, Resources(device="cpu"))
    made = Pool(store, ends_well)
    monkeypatch.setattr(local, "WorkerProcess", made.start)
    monkeypatch.setattr(local, "_LOOK_SECONDS", 0.01)
    return made


@pytest.mark.parametrize(
    ("asked", "gpus", "cores", "threads", "count"),
    [
        (3, [], 1, None, 3),
        (9, [], 1, None, 4),
        (None, [], 3, None, 3),
        (None, [], 64, None, 4),
        (None, [], 6, 2, 3),
        (None, [], 1, 2, 1),
        (None, ["0", "1"], 64, None, 2),
        (3, ["0", "1"], 1, None, 3),
    ],
)
def test_number_of_workers(
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    *,
    asked: int | None,
    gpus: list[str],
    cores: int,
    threads: int | None,
    count: int,
) -> None:
    for spec in SPECS:
        pool.store.describe(spec, Resources(threads=threads))
    monkeypatch.setattr(local, "_cores", lambda: cores)
    monkeypatch.setattr(local, "_gpus", lambda: gpus)
    Local(workers=asked)(pool.store, IDS, Watcher())
    assert len(pool.workers) == count
    if gpus:
        assert [worker.settings["CUDA_VISIBLE_DEVICES"] for worker in pool.workers] == ["0", "1", "0"][:count]


@pytest.mark.parametrize(
    ("device", "platform", "count"), [("mps", "linux", 1), ("auto", "darwin", 1), ("cpu", "darwin", 4)]
)
def test_the_gpu_of_a_mac_is_not_shared(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, device: Literal["mps", "auto", "cpu"], platform: str, count: int
) -> None:
    for spec in SPECS:
        pool.store.describe(spec, Resources(device=device))
    monkeypatch.setattr(local, "_cores", lambda: 8)
    monkeypatch.setattr(local, "_gpus", list)
    monkeypatch.setattr(sys, "platform", platform)
    Local()(pool.store, IDS, Watcher())
    assert len(pool.workers) == count


def test_more_cores_than_eight_are_not_taken(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [run_spec(seed=seed) for seed in range(1, 12)]
    for spec in many:
        pool.store.describe(spec, Resources(device="cpu"))
    monkeypatch.setattr(local, "_cores", lambda: 64)
    Local()(pool.store, [spec.run_id for spec in many], Watcher())
    assert len(pool.workers) == 8


def test_no_runs_need_no_worker(pool: Pool) -> None:
    Local()(pool.store, [], Watcher())
    assert pool.workers == []


def test_a_worker_has_one_thread_and_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    found = environment(1, ["4", "6"])
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "1", "6")
    assert "CUDA_VISIBLE_DEVICES" not in environment(0, [])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(0, [])["MKL_NUM_THREADS"] == "3"


def dies_in(phase: str) -> Callable[[Fake, str], None]:
    def script(fake: Fake, run_id: str) -> None:
        if run_id != IDS[1]:
            ends_well(fake, run_id)
            return
        begins(fake, run_id)
        fake.tell("progress", run_id=run_id, phase=phase, done=1, total=2)
        fake.hear(None)

    return script


@pytest.mark.parametrize(
    ("told", "phase"), [("fit", "fit"), ("predict test", "predict"), ("forward FLOPs", "save"), ("odd", "data")]
)
def test_a_death_is_the_failure_of_one_run(pool: Pool, told: str, phase: str) -> None:
    pool.script = dies_in(told)
    Local(workers=1)(pool.store, IDS, pool.watcher())
    assert [len(worker.given) for worker in pool.workers] == [2, 2]
    assert [item for item in pool.told if item.startswith(("done", "failed"))] == [
        "done 0",
        "failed 1",
        "done 2",
        "done 3",
    ]
    dead = pool.store.get(IDS[1])
    assert dead is not None
    assert dead.failure is not None
    assert (dead.failure.kind, dead.failure.phase) == ("WorkerDied", phase)
    assert "--workers" in dead.failure.fix
    assert pool.store.folder(IDS[1]).log.read_text().endswith("the worker ended by SIGKILL\nfirst\nlast word.\n")


def test_the_old_failure_of_a_run_is_replaced_and_a_new_record_is_not(pool: Pool) -> None:
    for place in (1, 2):
        pool.store.put(record(SPECS[place], None))
    pool.script = dies_in("fit")
    Local(workers=1)(pool.store, IDS, pool.watcher())
    dead, done = (pool.store.get(IDS[place]) for place in (1, 2))
    assert dead is not None
    assert dead.failure is not None
    assert dead.failure.kind == "WorkerDied"
    assert done is not None
    assert done.failure is None


def test_a_worker_that_dies_idle_costs_nothing(pool: Pool) -> None:
    def script(fake: Fake, run_id: str) -> None:
        if len(pool.workers) == 1:
            fake.hear(None)
        else:
            ends_well(fake, run_id)

    pool.script = script
    Local(workers=1)(pool.store, IDS, pool.watcher())
    assert [item for item in pool.told if item.startswith("done")] == [f"done {place}" for place in range(4)]


def test_a_run_that_no_worker_survives_is_given_up(pool: Pool) -> None:
    pool.script = lambda fake, run_id: fake.hear(None) if run_id == IDS[0] else ends_well(fake, run_id)
    Local(workers=1)(pool.store, IDS, pool.watcher())
    assert pool.told[:2] == ["begin 0", "failed 0"]
    assert len(pool.workers) == 3


def test_workers_that_never_become_ready_end_it(pool: Pool) -> None:
    pool.ready = lambda fake: fake.hear(None)
    with pytest.raises(ExecutorProblem, match="ended by SIGKILL before it could take a run: last word") as told:
        Local(workers=2)(pool.store, IDS, pool.watcher())
    assert len(pool.workers) == 2
    assert "inline" in told.value.fix
    assert pool.store.records() == []


def test_what_the_others_can_do_is_done(pool: Pool) -> None:
    pool.ready = lambda fake: fake.hear(None) if len(pool.workers) == 1 else fake.tell("ready")
    Local(workers=2)(pool.store, IDS, pool.watcher())
    assert len(pool.store.records()) == 4


def test_what_a_worker_cannot_go_on_from_is_raised_here(pool: Pool) -> None:
    pool.script = lambda fake, run_id: fake.tell("error", message="The disk is full.", fix="Make room.")
    with pytest.raises(StoreProblem, match=r"The disk is full\. Make room\."):
        Local(workers=1)(pool.store, IDS, pool.watcher())


def test_what_another_command_has_done_meanwhile_is_taken_over(pool: Pool) -> None:
    def script(fake: Fake, run_id: str) -> None:
        pool.store.put(record(SPECS[3], None))
        ends_well(fake, run_id)

    pool.script = script
    Local(workers=1)(pool.store, IDS, pool.watcher())
    assert pool.told[-2:] == ["begin 3", "failed 3"]


def test_only_an_executor_with_workers_takes_a_number(tmp_path: Path) -> None:
    assert verbs.choose_executor("local", 3) == Local(workers=3)
    assert verbs.choose_executor("local") == Local()
    with pytest.raises(UsageError, match=r"The executor inline has no workers\. Leave --workers away"):
        verbs.choose_executor("inline", 2)
    own = tmp_path / "own.py"
    own.write_text("def own(store, run_ids, watcher):\n    pass\n\n\nEXECUTOR = own\n")
    with pytest.raises(UsageError, match="has no workers"):
        verbs.choose_executor(str(own), 2)
    assert callable(verbs.choose_executor(str(own)))
