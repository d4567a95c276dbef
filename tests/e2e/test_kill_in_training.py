"""A training killed at random points goes on in new processes, and leaves the bits of an undisturbed one."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.command import peftbench
from peftbench.store import Store

SHARED = Path(__file__).parents[3] / "shared"
SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_and_resume.py"
POINTS = 5


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("kill_and_resume", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def killed_at_random(
    script: Any, model: str, methods: Sequence[str], steps: int, points: int, folder: Path
) -> list[Any]:
    """Kill runs at points drawn over all steps of all methods; what became of each."""
    seed = int(os.environ.get("PEFTBENCH_KILL_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"kill seed: {seed}")
    draw = random.Random(seed)
    asked = script.suite(folder, model, methods, [1], steps)
    # The command without the interpreter: the libraries are imported already.
    done = peftbench(*script.command(asked, folder / "undisturbed", every_seconds=1e6)[3:])
    assert done.code == 0, done.err
    runs = [record.run_id for record in script.in_order(Store(folder / "undisturbed"))]
    # Not after the last step of the last run, where a kill may come too late.
    drawn = sorted(draw.sample(range(len(runs) * steps - steps // 2), points))
    kills = {run_id: [place % steps + 1 for place in drawn if place // steps == row] for row, run_id in enumerate(runs)}
    outcomes: list[Any] = script.compared(asked, folder / "undisturbed", folder / "disturbed", kills, seed)
    return outcomes


@pytest.mark.shared
def test_killed_at_five_points(script: Any, tmp_path: Path) -> None:
    outcomes = killed_at_random(
        script, str(SHARED / "models" / "stories15m-llama2"), script.METHODS, 6, POINTS, tmp_path
    )
    assert [one.record.spec.method.name for one in outcomes if one.resumed != one.undisturbed] == []
    assert sorted(one.record.spec.method.name for one in outcomes) == sorted(script.METHODS)
    assert sum(one.states for one in outcomes) >= POINTS - 1, "nothing was resumed: the kills came before a state"


def test_killed_on_the_embedded_model(script: Any, tmp_path: Path) -> None:
    (one,) = killed_at_random(script, "tiny", ["lora"], 60, 1, tmp_path)
    assert one.resumed == one.undisturbed
    assert one.states == len(one.kills) == 1
    # What the record tells of training is told of the whole of it.
    before = Store(tmp_path / "undisturbed").get(one.record.run_id)
    assert before is not None
    assert before.fit is not None
    assert one.record.fit == before.fit.model_copy(update={"resumed_at": one.record.fit.resumed_at})
    assert 0 < one.record.fit.resumed_at <= 60
    folder = Store(tmp_path / "disturbed").folder(one.record.run_id)
    assert not folder.training.exists(), "a run that went well needs no state"
    steps = Counter(line.split(",")[0] for line in folder.train_log.read_text().splitlines())
    assert len(steps) == 60
    assert set(steps.values()) == {1}
