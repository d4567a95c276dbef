"""`kill -9` at any time loses at most the run in progress; the same command continues; no half record is read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

from e2e import warm
from e2e.command import peftbench, snapshot
from e2e.processes import children
from peftbench.record import Record
from peftbench.store import Store

KILLS = 6
SUITE = (
    *(
        "--tasks",
        "toy_mood,toy_more",
        "--models",
        "tiny",
        "--methods",
        "zero_shot,lora,prompt_tuning",
        "--seeds",
        "1,2",
    ),
    *("--threads", "1", "--no-report", "train.max_steps=6", "train.limit=64", "evaluate.limit=16"),
)


def test_kill_and_continue(tmp_path: Path) -> None:
    seed = int(os.environ.get("PEFTBENCH_KILL_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"kill seed: {seed}")
    draw = random.Random(seed)
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    assert peftbench("run", "--help").code == 0, "the libraries are imported"
    started = time.monotonic()
    assert peftbench("run", *SUITE, "--store", undisturbed).code == 0
    whole = time.monotonic() - started

    # The first one hits the middle of all; what is left is less each time.
    killed, times = 0, [0.5 * whole, *(draw.uniform(0, whole) for _ in range(KILLS - 1))]
    for seconds in times:
        before = _published(store)
        killed += _run_and_kill(store, seconds)
        after = _published(store)
        assert {key: after[key] for key in before} == before, "a published record changed"
        assert len(_begun(store) - after.keys()) <= 1, "more than the run in progress was lost"

    assert killed > 0
    assert peftbench("run", *SUITE, "--store", store).code == 0
    assert _outcomes(store) == _outcomes(undisturbed)


def test_a_part_of_a_record_is_never_read(tmp_path: Path) -> None:
    """The guard itself: what a kill leaves beside the record, half written, does not count as one."""
    assert peftbench("run", *SUITE, "--store", tmp_path, "evaluate.limit=2", "--methods", "zero_shot").code == 0
    store = Store(tmp_path)
    run_id = store.run_ids()[0]
    whole = store.folder(run_id).record.read_text()
    store.folder(run_id).record.unlink()
    store.folder(run_id).record.with_name(".record.json.1").write_text(whole[: len(whole) // 2])
    assert store.state(run_id) == "started"
    assert store.get(run_id) is None


def _run_and_kill(store: Path, after_seconds: float) -> int:
    """How many commands were killed: one, unless it was over before."""
    command = threading.Thread(target=peftbench, args=("run", *SUITE, "--store", store))
    command.start()
    command.join(after_seconds)
    at_work = children(warm.server().pid)
    for process in at_work:
        # One that has just ended cannot be killed.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    command.join()
    return len(at_work)


def _published(store: Path) -> dict[str, bytes]:
    """The records as bytes; each is whole and valid."""
    files = {key: value for key, value in snapshot(store).items() if key.endswith("/record.json")}
    for content in files.values():
        Record.model_validate_json(content, strict=True)
    return {key.split("/")[1]: value for key, value in files.items()}


def _begun(store: Path) -> set[str]:
    return {path.parent.name for path in store.glob("runs/*/log.txt")}


def _outcomes(store: Path) -> dict[str, object]:
    """Everything of the records that a kill must not change, and the answers."""
    found: dict[str, object] = {}
    for record in Store(store).records():
        data = record.model_dump(mode="json", include={"spec", "test", "validation", "fit", "failure"})
        answers = (Store(store).folder(record.run_id).predictions).read_text()
        found[record.run_id] = json.dumps([data, answers], sort_keys=True)
    return found
