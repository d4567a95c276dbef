"""Kill training at random points, go on in new processes, and compare with undisturbed runs, to the bit.

    python scripts/kill_and_resume.py MODEL --points 20 --seed 1 --log docs/reference/resume.md

Every run is done twice: undisturbed, and in a store where the process is killed (SIGKILL) again and again while it
trains, a random time after a random step. A state is written after each step, so that every kill falls between two of
them or into the writing of one. In the end the sha256 of all files of the adapter and of the answers are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peftbench import Record, Store

METHODS = ("lora", "prompt_tuning", "ln_tuning", "full")
STEPS = 12
# Kills of one run, one after the other.
_CHAIN = 5
# The longest time between a step and a kill: into the next steps, the writing of a state, or the answers.
_DELAY_SECONDS = 0.3
_SUITE = """
name: resume
tasks: [toy_mood]
models: [{{use: {model}}}]
methods: [{methods}]
seeds: [{seeds}]
train: {{max_steps: {steps}, num_train_epochs: 10, limit: 64, per_device_train_batch_size: 4, eval_steps: 2}}
evaluate: {{limit: 4, merged: false}}
"""
# Without it no random number would be drawn in a step.
_LORA = "{use: lora, lora_dropout: 0.1}"


@dataclass(frozen=True)
class Kill:
    """A kill as it happened: the last line of the log of training was that of `step`."""

    run_id: str
    wanted: int
    delay_seconds: float
    step: int


@dataclass(frozen=True)
class Outcome:
    """A run that was killed on its way: where, and whether what it left is what the undisturbed one left."""

    record: Record
    kills: tuple[Kill, ...]
    undisturbed: str
    resumed: str
    states: int


def suite(folder: Path, model: str, methods: Sequence[str], seeds: Sequence[int], steps: int = STEPS) -> Path:
    """A suite of small runs, written to a folder."""
    named = ", ".join(_LORA if method == "lora" else method for method in methods)
    path = folder / "resume.yaml"
    path.write_text(
        _SUITE.format(model=model, methods=named, seeds=", ".join(map(str, seeds)), steps=steps), encoding="utf-8"
    )
    return path


def command(asked: Path, store: Path, *, every_seconds: float = 0.0) -> list[str]:
    """The command of a person, in a process that starts from nothing."""
    # The library that multiplies is named: to choose it by trying may end otherwise in the other store.
    words = ("run", asked, "--store", store, "--threads", "1", "--device", "cpu", "--matmul", "torch", "--no-report")
    return [sys.executable, "-m", "peftbench", *map(str, words), "--checkpoint-seconds", str(every_seconds)]


def compared(asked: Path, undisturbed: Path, disturbed: Path, kills: dict[str, list[int]], seed: int) -> list[Outcome]:
    """Kill the runs of `undisturbed` in another store, after steps given by run, and compare the two."""
    draw = random.Random(seed)
    done = [kill for run_id, steps in kills.items() for kill in _killed(asked, Store(disturbed), run_id, steps, draw)]
    subprocess.run(command(asked, disturbed), check=True, capture_output=True)  # noqa: S603 - our own command
    return [
        Outcome(
            record,
            tuple(kill for kill in done if kill.run_id == record.run_id),
            digest(Store(undisturbed), record.run_id),
            digest(Store(disturbed), record.run_id),
            Store(disturbed).folder(record.run_id).log.read_text(encoding="utf-8").count("training goes on"),
        )
        for record in Store(disturbed).records()
    ]


def _killed(asked: Path, store: Store, run_id: str, steps: Sequence[int], draw: random.Random) -> Iterator[Kill]:
    """Start the command again and again, and kill it in a run."""
    for wanted in steps:
        delay = draw.uniform(0, _DELAY_SECONDS)
        started = time.time_ns()
        with subprocess.Popen(command(asked, store.path), stderr=subprocess.DEVNULL) as process:  # noqa: S603 - likewise
            while process.poll() is None and not _came_to(store, run_id, wanted, started):
                time.sleep(0.005)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        if process.returncode not in {0, -signal.SIGKILL}:
            raise RuntimeError(f"the command failed with {process.returncode}")
        # One that ended before was not killed.
        if store.get(run_id) is None:
            yield Kill(run_id, wanted, delay, _lines(store, run_id))


def _came_to(store: Store, run_id: str, step: int, since: int) -> bool:
    """Whether a process that was started at a time has done a step of its own, and this one is done."""
    log = store.folder(run_id).train_log
    return log.exists() and log.stat().st_mtime_ns > since and _lines(store, run_id) >= step


def _lines(store: Store, run_id: str) -> int:
    log = store.folder(run_id).train_log
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def digest(store: Store, run_id: str) -> str:
    """The sha256 over the names and contents of the files of an adapter, and the answers."""
    folder, found = store.folder(run_id), hashlib.sha256()
    for path in (*sorted(folder.adapter.rglob("*")), folder.predictions):
        if path.is_file():
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def in_order(store: Store) -> list[Record]:
    """Records in the order in which their runs are done."""
    return sorted(store.records(), key=lambda record: record.started)


def _rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "| method | seed | killed after step (resumed from a state) | sha256 undisturbed | sha256 killed | equal |"
    yield "|---|---|---|---|---|---|"
    for one in outcomes:
        at = ", ".join(str(kill.step) for kill in one.kills) + f" ({one.states})"
        same = "yes" if one.undisturbed == one.resumed else "**no**"
        spec = one.record.spec
        yield f"| {spec.method.name} | {spec.seed} | {at} | {one.undisturbed[:16]} | {one.resumed[:16]} | {same} |"


def _report(outcomes: Sequence[Outcome], arguments: argparse.Namespace) -> str:
    environment = outcomes[0].record.environment
    kills = sum(len(one.kills) for one in outcomes)
    asked = arguments.points * len(METHODS)
    same = sum(one.undisturbed == one.resumed for one in outcomes)
    lines = [
        "# Killed and resumed",
        "",
        "Written by `scripts/kill_and_resume.py`, which says how. A step is given by the lines of the log of training",
        "when the process was gone; a kill after the last one fell into what follows training.",
        "",
        f"{kills} of {asked} kills met a run, in {len(outcomes)} runs of {STEPS} steps on {arguments.model.name}.",
        f"They were drawn with seed {arguments.seed}. {same} of {len(outcomes)} runs left the adapter and the answers",
        "of an undisturbed one, to the bit.",
        "",
        f"peftbench {environment.peftbench}, torch {environment.packages['torch']}, one thread of an "
        + environment.processor
        + ".",
        "",
        *_rows(outcomes),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Kill, go on, compare; 1 when any run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model")
    parser.add_argument("--points", type=int, default=20, help="kills of each method")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--log", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    draw = random.Random(arguments.seed)
    chains = [min(_CHAIN, arguments.points - first) for first in range(0, arguments.points, _CHAIN)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked = suite(folder, str(arguments.model.resolve()), METHODS, range(1, len(chains) + 1))
        subprocess.run(command(asked, folder / "undisturbed", every_seconds=1e6), check=True)  # noqa: S603 - likewise
        runs = in_order(Store(folder / "undisturbed"))
        length = {record.run_id: chains[(record.spec.seed or 1) - 1] for record in runs}
        kills = {run_id: sorted(draw.randint(1, STEPS) for _ in range(count)) for run_id, count in length.items()}
        outcomes = compared(asked, folder / "undisturbed", folder / "disturbed", kills, arguments.seed)
    report = _report(sorted(outcomes, key=lambda one: one.record.started), arguments)
    print(report)
    if arguments.log is not None:
        arguments.log.write_text(report, encoding="utf-8")
    return int(any(one.undisturbed != one.resumed for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
