"""A method that looks at training examples before it is attached: which ones it is shown, and when there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from peftbench import execute, stages
from peftbench.methods._method import Base
from peftbench.methods.lora import Lora
from peftbench.models._chat import Encoded
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.spec import Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.training import loop
from peftbench.training.loop import TrainingData
from peftbench.workbench import Workbench


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Any]]:
    """What LoRA finds in the base, a list for each time that it is attached."""
    seen: list[Sequence[Any]] = []
    attach = Lora.attach

    def looking(method: Lora, base: Base) -> Any:
        seen.append(list(base.examples))
        return attach(method, base)

    monkeypatch.setattr(Lora, "attach", looking)
    return seen


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[Encoded]]:
    """What is trained on, example by example."""
    seen: list[list[Encoded]] = []
    fit = loop.fit

    def watched(adapter: Any, data: TrainingData, *rest: Any) -> Any:
        seen.append([data.train[place] for step in data.steps for place in step])
        return fit(adapter, data, *rest)

    monkeypatch.setattr(stages, "fit", watched)
    return seen


def run(folder: Path, **train: Any) -> Record:
    suite = {"tasks": ["toy_mood"], "models": ["tiny"], "methods": ["lora"], "seeds": [3], "evaluate": {"limit": 2}}
    plan = make_plan(build_suite({**suite, "train": {"limit": 40, **train}}), Resources(device="cpu", threads=1))
    (one,) = plan.runs
    return execute(one.spec, one.resources, Store(folder), Workbench())


@pytest.mark.parametrize(("train", "rows"), [({"max_steps": 2}, 16), ({"num_train_epochs": 2}, 32)])
def test_it_is_shown_what_training_begins_with(
    train: dict[str, Any],
    rows: int,
    shown: list[Sequence[Encoded]],
    learned: list[list[Encoded]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Lora, "looks_first", True)
    record = run(tmp_path, validation_share=0.2, per_device_train_batch_size=8, gradient_accumulation_steps=1, **train)
    assert record.failure is None
    assert shown[0] == learned[0][:rows], "in the order of training, each once, none that is held out"
    assert len(shown[0]) == rows


def test_others_are_shown_nothing(shown: list[Sequence[Encoded]], tmp_path: Path) -> None:
    assert run(tmp_path, max_steps=1).failure is None
    assert shown == [[]]
