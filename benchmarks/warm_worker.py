"""How soon a worker trains: seconds from taking a run to its first training step, run by run, for one bench.

Run: python benchmarks/warm_worker.py [--model tiny] [--data-root DIR] [--task toy_mood] [--methods lora,full]
[--cells 3] [overrides]. The cells of a method differ in their seed. The first cell of the first method loads the model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from peftbench import Resources, Store, build_suite, make_plan
from peftbench.executors._executor import Watcher
from peftbench.executors._worker import Worker, warmed_up

SMALL = ["train.max_steps=2", "train.eval_steps=2", "train.limit=160", "evaluate.limit=2"]


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--task", default="toy_mood")
    parser.add_argument("--methods", default="lora,prompt_tuning,full")
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="such as train.limit=1000")
    return parser.parse_args()


def main() -> None:
    """Have all cells done by one worker in this process, and print when each came to its first step."""
    asked = arguments()
    root = None if asked.data_root is None else str(asked.data_root.resolve())
    what = {"tasks": asked.task, "models": asked.model, "methods": asked.methods}
    seeds = ",".join(str(seed) for seed in range(1, asked.cells + 1))
    overrides = [f"{key}={value}" for key, value in what.items()]
    suite = build_suite({}, [*overrides, f"seeds={seeds}", *SMALL, *asked.overrides])
    runs = make_plan(suite, Resources(threads=1, data_root=root)).runs
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for run in runs:
            store.describe(run.spec, run.resources)
        times, watcher = clock()
        with warmed_up() as bench:
            worker = Worker(store, watcher, bench)
            for run in runs:
                worker.do(run.run_id, None)
        print(f"{'method':16s} seconds to the first step, cell by cell ({asked.model}, {asked.task}, one thread)")
        for method in dict.fromkeys(run.spec.method.name for run in runs):
            mine = [run.run_id for run in runs if run.spec.method.name == method]
            print(f"{method:16s} " + " ".join(f"{seconds(store, run_id, times):8.2f}" for run_id in mine))


def clock() -> tuple[dict[tuple[str, str], float], Watcher]:
    """When each run was taken, and when its first training step was over."""
    times: dict[tuple[str, str], float] = {}

    def begin(run_id: str) -> None:
        times[run_id, "taken"] = time.perf_counter()

    def progress(run_id: str, phase: str, done: int, total: int) -> None:
        del total
        if phase == "fit" and done == 1:
            times[run_id, "step"] = time.perf_counter()

    return times, Watcher(begin, progress)


def seconds(store: Store, run_id: str, times: dict[tuple[str, str], float]) -> float:
    """From the moment a run was taken to the start of its first step: its end less what it took."""
    record = store.get(run_id)
    assert record is not None
    assert record.failure is None, record.failure
    first = json.loads(store.folder(run_id).train_log.read_text(encoding="utf-8").splitlines()[0])
    return times[run_id, "step"] - times[run_id, "taken"] - float(first["seconds"])


if __name__ == "__main__":
    main()
