"""Runs in worker processes: the same results, a death costs one run, and whatever ends the command ends the workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.command import OF_EACH_KIND, environment, peftbench
from e2e.processes import alive, children, started, stop, waited
from peftbench.executors._executor import Watcher
from peftbench.executors.local import Local
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.verbs import run

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks at processes through /proc")

TIMED = dict.fromkeys(("cost", "environment", "started", "finished"), True)
COLUMNS = {"run_id", "task", "model", "method", "seed", "state", "phase", "done", "total"}
SMALL = ("--threads", "1", "--no-report", "train.max_steps=3", "train.limit=48", "evaluate.limit=8")
TWO = ("--executor", "local", "--workers", "2")
AtWork = tuple[subprocess.Popen[str], list[int]]
LONG = ("--tasks", "toy_mood", "--models", "tiny", "--methods", "lora,full", "train.num_train_epochs=300")


def comparable(store: Path) -> dict[str, object]:
    """All that equal runs with equal resources have in common, byte by byte."""
    found: dict[str, object] = {}
    for record in Store(store).records():
        folder = Store(store).folder(record.run_id)
        steps = [json.loads(line) for line in folder.train_log.read_text().splitlines()] if record.fit else []
        found[record.run_id] = {
            "record": record.model_dump(exclude={**TIMED, "merged": {"predict_seconds", "predict_tokens_per_second"}}),
            "predictions": folder.predictions.read_bytes(),
            "steps": [{key: value for key, value in step.items() if key != "seconds"} for step in steps],
            "adapter": {path.name: path.read_bytes() for path in sorted(folder.adapter.glob("*"))},
        }
    return found


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    ask = ("--tasks", "toy_mood,toy_more", "--models", "tiny", "--methods", ",".join(OF_EACH_KIND))
    for name, how in (("inline", ()), ("local", TWO)):
        done = peftbench("run", *ask, *SMALL, "--store", tmp_path / name, *how)
        assert done.code == 0, done.err
        assert done.err.count(" accuracy ") == 2 * len(OF_EACH_KIND)
    inline, local = comparable(tmp_path / "inline"), comparable(tmp_path / "local")
    assert len(inline) == 2 * len(OF_EACH_KIND)
    assert inline == local


METHOD = '''"""Dies while it is attached, as long as there is a file `deadly`."""
import ctypes, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from peftbench.methods.lora import Lora

@dataclass(frozen=True)
class Mine(Lora):
    def attach(self, base):
        if Path("deadly").exists():
            print("printed", flush=True)
            print("said last", file=sys.stderr, flush=True)
            DIE
        return super().attach(base)

METHOD = Mine
'''
FORKS = """if (child := os.fork()) == 0: time.sleep(3600)
            Path("child").write_text(str(child))
            os._exit(4)"""
DEATHS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "The worker ended by SIGKILL."),
    "crashed": ("ctypes.string_at(0)", "The worker ended by SIGSEGV."),
    "left": ("os._exit(3)", "The worker ended with exit code 3."),
    # What it has forked lives on and holds its output open: nobody waits for that, and nothing is left of it.
    "forked": (FORKS, "The worker ended with exit code 4."),
}


def test_a_death_costs_one_run(tmp_path: Path) -> None:
    for name, (line, _) in DEATHS.items():
        (tmp_path / f"{name}.py").write_text(METHOD.replace("DIE", line))
    (tmp_path / "deadly").touch()
    methods = ",".join([*(f"{name}.py" for name in DEATHS), "lora", "zero_shot"])
    ask = ("--tasks", "toy_mood", "--models", "tiny", "--methods", methods, *SMALL, "--store", "store")
    done = peftbench("run", *ask, *TWO, folder=tmp_path)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    assert "4 of 6 runs failed. Again: --retry." in done.err
    assert not alive(int((tmp_path / "child").read_text()))
    store = Store(tmp_path / "store")
    records = {record.spec.method.name: record for record in store.records()}
    assert {name for name, record in records.items() if record.failure is None} == {"lora", "zero_shot"}
    for name, (_, message) in DEATHS.items():
        failure = records[name].failure
        assert failure is not None
        assert (failure.kind, failure.phase, failure.message) == ("WorkerDied", "attach", message)
        assert "--retry" in failure.fix
        assert records[name].headline == "accuracy"
        log = store.folder(records[name].run_id).log.read_text()
        assert "printed\nsaid last" in log
    crashed = store.folder(records["crashed"].run_id).log.read_text()
    assert "string_at" in crashed, "the line that crashed is in the log"
    assert peftbench("run", *ask, *TWO, folder=tmp_path).code == 1, "a death is not forgotten"
    (tmp_path / "deadly").unlink()
    again = peftbench("run", *ask, "--retry", folder=tmp_path)
    assert again.code == 0, again.err


def test_workers_that_cannot_start_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peft.py").write_text("raise ImportError('out of order')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{environment().get('PYTHONPATH', '')}")
    done = peftbench("run", *LONG, *SMALL, "--store", tmp_path / "store", *TWO)
    assert done.code == 2
    assert "ended with exit code 1 before it could take a run: ImportError: out of order." in done.sentence
    assert Store(tmp_path / "store").records() == []


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[AtWork]:
    """A command with two workers that both train."""
    process = started("run", *LONG, "--threads", "1", "--no-report", "--store", tmp_path, *TWO)
    try:
        assert waited(lambda: len(list(tmp_path.glob("runs/*/train.jsonl"))) == 2 or process.poll() is not None)
        workers = children(process.pid)
        assert len(workers) == 2
        yield process, workers
    finally:
        stop(process)


def test_status_tells_how_far_and_a_dead_command_leaves_no_workers(at_work: AtWork, tmp_path: Path) -> None:
    process, workers = at_work
    far: list[dict[str, object]] = []

    def both_train() -> bool:
        far[:] = json.loads(peftbench("status", "--store", tmp_path, "--json").out)
        return all(row["phase"] == "fit" and row["done"] for row in far)

    assert waited(both_train), far
    assert [(set(row), row["state"]) for row in far] == [(COLUMNS, "running")] * 2
    assert peftbench("status", "--store", tmp_path).out.count("running  fit ") == 2
    process.kill()
    assert waited(lambda: not any(alive(worker) for worker in workers), 10), "the workers outlived the command"
    store = Store(tmp_path)

    def let_go() -> bool:
        return [store.state(run_id) for run_id in store.run_ids()] == ["started", "started"]

    # The threads of a process that was killed end one after the other, and the last one lets go of its files.
    assert waited(let_go, 10)
    told = json.loads(peftbench("status", "--store", tmp_path, "--json").out)
    assert [row["phase"] for row in told] == [None, None]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_stopping_stops_all(at_work: AtWork, how: str, tmp_path: Path) -> None:
    process, workers = at_work
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Stopped. The same command continues."
    assert "Traceback" not in err
    assert not any(alive(worker) for worker in workers)
    assert Store(tmp_path).records() == []


def test_exec_reads_ids(tmp_path: Path) -> None:
    """What a worker is told, typed by a person: both ways of naming a run, one event after the other."""
    done = peftbench("run", *LONG, *SMALL, "--store", tmp_path)
    assert done.code == 0
    store = Store(tmp_path)
    first, second = store.run_ids()
    store.folder(first).record.unlink()
    told = peftbench("exec", tmp_path, "-", given=f"{first[-8:]}\n\n{second}\n")
    assert told.code == 0, told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    heard = [(event["event"], event.get("run_id")) for event in events if event["event"] != "progress"]
    assert heard == [("ready", None), *((name, run_id) for run_id in (first, second) for name in ("begin", "done"))]
    assert {event["run_id"] for event in events if event["event"] == "progress"} == {first}, "it was done again"
    assert store.state(first) == "done"
    unknown = peftbench("exec", tmp_path, "-", given="nonsense\n")
    assert unknown.code == 2
    assert "There is no run 'nonsense'" in unknown.sentence
    assert json.loads(unknown.out.splitlines()[-1])["event"] == "error"
    for more in ((first,), ("--again",)):
        assert "standard input alone" in peftbench("exec", tmp_path, "-", *more).sentence


def test_what_another_command_does_is_left_to_it(tmp_path: Path) -> None:
    """One run is held elsewhere: the other is done meanwhile, then its record is taken over."""
    asked = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": ["zero_shot", "lora"]}
    suite = build_suite({**asked, "train": {"max_steps": 2, "limit": 32}, "evaluate": {"limit": 4}}, [])
    elsewhere, store = Store(tmp_path / "elsewhere"), Store(tmp_path / "store")
    how = Resources(threads=1, device="cpu")
    theirs = {record.run_id: record for record in run(suite, elsewhere, how).records}
    held = next(iter(theirs))
    free, told = threading.Event(), []

    def work() -> None:
        with store.claim(held):
            claimed.set()
            assert free.wait(60)
            store.put(theirs[held])

    claimed = threading.Event()
    other = threading.Thread(target=work)
    other.start()
    assert claimed.wait(10)

    def begin(run_id: str) -> None:
        told.append(f"begin {run_id}")

    def progress(run_id: str, phase: str, done: int, total: int) -> None:
        if phase == "another process is at it":
            told.append(f"waits for {run_id}")
            free.set()

    def done(record: Record) -> None:
        told.append(f"done {record.run_id}")

    store.describe(theirs[held].spec, how)
    outcome = run(suite, store, how, executor=Local(workers=1), watcher=Watcher(begin, progress, done))
    other.join()
    mine = next(run_id for run_id in theirs if run_id != held)
    assert told == [f"begin {mine}", f"done {mine}", f"begin {held}", f"waits for {held}", f"done {held}"]
    assert outcome.records[0] == theirs[held]
