"""How long it takes to read every row of a mirror into examples, and how much memory they take when all are kept.

Run: python benchmarks/read_rows.py --data-root DIR [--rounds 3]. Prints rows, examples and seconds for each data set:
of the first read in this process, and the median of the rounds that follow. The peak is that of the first read, with
all examples kept. Exit code 1 when all take longer than 20 seconds, or more than 1.5 GiB.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from peftbench import registry
from peftbench.tasks._source import Files, HubDataset
from peftbench.tasks._task import Item, Split, Task, items

SECONDS, BYTES = 20.0, 1.5 * 2**30
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class Reading:
    """One reading of a data set: its rows, the examples made of them, and how long that took."""

    rows: int
    examples: list[Item]
    seconds: float


def arguments() -> argparse.Namespace:
    """What to read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def mirrored(root: Path) -> dict[str, Task]:
    """The tasks whose data set lies in the mirror."""
    tasks = {name: registry.load("tasks", name).value for name in registry.names("tasks")}
    return {
        name: task
        for name, task in tasks.items()
        if isinstance(task.source, HubDataset) and (root / task.source.mirror).is_dir()
    }


def read(task: Task, root: Path) -> Reading:
    """All rows of a task as examples, as a run reads them; then what lies beside its splits, such as few-shot rows."""
    assert isinstance(task.source, HubDataset)
    started = time.perf_counter()
    identity = task.source.identity(str(root))
    found: list[Item] = []
    count = 0
    for split in SPLITS:
        rows = task.source.rows(split, str(root), identity)
        count += len(rows)
        found += items(task, enumerate(rows), split)
    for file in sorted((root / task.source.mirror).glob("*.jsonl*")):
        if file.name.partition(".")[0] not in {"train", "validation"}:
            beside = Files(file, file)
            rows = beside.rows("train", None, beside.identity(None))
            count += len(rows)
            found += items(task, enumerate(rows), "train")
    return Reading(count, found, time.perf_counter() - started)


def peak() -> int:
    """The most bytes this process ever had resident."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> int:
    """Read, print, and say whether it was fast and small enough."""
    asked = arguments()
    tasks = mirrored(asked.data_root)
    first = {name: read(task, asked.data_root) for name, task in tasks.items()}
    most = peak()
    counts = {name: (reading.rows, len(reading.examples)) for name, reading in first.items()}
    cold = {name: reading.seconds for name, reading in first.items()}
    del first
    gc.collect()
    rounds: list[dict[str, float]] = []
    cpu: list[float] = []
    for _ in range(asked.rounds):
        before = time.process_time()
        kept = {name: read(task, asked.data_root) for name, task in tasks.items()}
        cpu.append(time.process_time() - before)
        rounds.append({name: reading.seconds for name, reading in kept.items()})
        del kept
    print(f"{'data set':14s} {'rows':>8s} {'examples':>8s} {'first s':>8s} {'median s':>8s}   ({asked.rounds} rounds)")
    for name, (rows, examples) in counts.items():
        middle = statistics.median(times[name] for times in rounds)
        print(f"{name:14s} {rows:8,d} {examples:8,d} {cold[name]:8.2f} {middle:8.2f}")
    rows, examples = (sum(column) for column in zip(*counts.values(), strict=True))
    median = statistics.median(sum(times.values()) for times in rounds)
    print(f"{'all':14s} {rows:8,d} {examples:8,d} {sum(cold.values()):8.2f} {median:8.2f}")
    print(
        f"peak {most / 2**30:.2f} GiB of {BYTES / 2**30:.1f}, "
        f"median {median:.1f} s of {SECONDS:.0f} ({statistics.median(cpu):.1f} s of a processor)"
    )
    return int(median > SECONDS or most > BYTES)


if __name__ == "__main__":
    sys.exit(main())
