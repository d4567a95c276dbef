"""The check of the README's claims fails when a claim does not hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from e2e.command import environment
from peftbench.record import Prediction, Record
from peftbench.spec import Resources, RunSpec
from peftbench.store import Store, write_lines
from unit.samples import record, run_spec

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_claims.py"
FLOOR = {"toy_mood": 0.5, "toy_more": 0.47, "toy_dial": 0.1, "sst2": 0.45, "copa": 0.48}

# The score of a run, None for one that failed.
Outcome = Callable[[RunSpec], float | None]


def good(spec: RunSpec) -> float:
    """What the claims want, by some margin."""
    return FLOOR[spec.task.name] if spec.method.name == "zero_shot" else 0.9


def checked(folder: Path, suite: str, tasks: list[str], outcome: Outcome, rows: int = 572) -> tuple[int, str]:
    store = Store(folder)
    methods = ["zero_shot", "full", "lora", "prompt_tuning"]
    for task, method in product(tasks, methods):
        for seed in [None] if method == "zero_shot" else [1, 2]:
            put(store, record(run_spec(task, method, seed), outcome(run_spec(task, method, seed))), rows)
            rows = 572 if method == "zero_shot" else rows
    command = [sys.executable, str(SCRIPT), suite, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def put(store: Store, outcome: Record, rows: int) -> None:
    folder = store.begin(outcome.spec, Resources())
    write_lines(
        folder.predictions,
        [
            Prediction(
                id=f"test/{n}",
                group="g",
                split="test",
                target="t",
                text="t",
                answer="t",
                statistics={"accuracy": (1.0,)},
            )
            for n in range(rows)
        ],
    )
    store.put(outcome)


TOYS, REAL = ["toy_mood", "toy_more", "toy_dial"], ["sst2", "copa"]


@pytest.mark.parametrize(("suite", "tasks"), [("quickstart", TOYS), ("smollm2_small", REAL)])
def test_what_holds_passes(suite: str, tasks: list[str], tmp_path: Path) -> None:
    code, out = checked(tmp_path, suite, tasks, good)
    assert code == 0, out
    assert "NO" not in out


def only(task: str, method: str, score: float | None, seed: int | None = 2) -> Outcome:
    def outcome(spec: RunSpec) -> float | None:
        odd = (spec.task.name, spec.method.name, spec.seed) == (task, method, seed)
        return score if odd else good(spec)

    return outcome


@pytest.mark.parametrize(
    ("suite", "tasks", "outcome", "claim"),
    [
        ("quickstart", TOYS, only("toy_dial", "zero_shot", 0.16, None), "toy_dial: zero_shot near chance"),
        ("quickstart", TOYS, lambda spec: min(good(spec), 0.65), "toy_mood: best method above"),
        ("quickstart", TOYS, only("toy_dial", "full", None), "runs without a failure"),
        ("quickstart", TOYS[:2], good, "runs without a failure"),
        ("smollm2_small", REAL, only("sst2", "lora", 0.49), "sst2: lora, seed 2"),
    ],
)
def test_what_does_not_hold_is_told(suite: str, tasks: list[str], outcome: Outcome, claim: str, tmp_path: Path) -> None:
    code, out = checked(tmp_path, suite, tasks, outcome)
    assert code == 1, out
    assert any(line.startswith(f"NO {claim}") for line in out.splitlines()), out


def test_other_rows_are_told(tmp_path: Path) -> None:
    code, out = checked(tmp_path, "smollm2_small", REAL, good, rows=571)
    assert code == 1
    assert "NO sst2: lora, seed 1: same rows" in out
