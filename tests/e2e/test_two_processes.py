"""Two processes on one store share the work: every run is done once, and both end with all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from e2e.command import environment
from peftbench.store import Store

ASK = ("--tasks", "toy_mood,toy_more", "--models", "tiny", "--methods", "zero_shot,lora", "--seeds", "1,2")
SMALL = ("--threads", "1", "--no-report", "train.max_steps=6", "train.limit=64", "evaluate.limit=16")


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "peftbench", "run", *ASK, *SMALL, "--store", str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    store = Store(tmp_path)
    assert len(store.records()) == 6
    for record in store.records():
        begun = store.folder(record.run_id).log.read_text().splitlines()
        assert sum(line.endswith(" data") for line in begun) == 1, "the run was begun twice"
        assert record.failure is None
        assert store.folder(record.run_id).adapter.is_dir() == (record.fit is not None)
    # Each tells of every run, whoever did it.
    assert [sum(" accuracy " in line for line in text.splitlines()) for text in told] == [6, 6], told
