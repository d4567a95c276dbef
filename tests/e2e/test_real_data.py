"""Real rows and real pretrained models through the command line, with small numbers; all tasks: test_all_tasks.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.command import peftbench
from peftbench.store import Store

SHARED = Path(__file__).parents[3] / "shared"
pytestmark = [
    pytest.mark.shared,
]
TASKS = ("boolq", "copa", "gsm8k", "rte", "sst2")
SMALL = ("train.limit=24", "train.max_steps=3", "train.per_device_train_batch_size=4", "evaluate.limit=6")


def test_five_tasks(tmp_path: Path) -> None:
    ask = (
        "--tasks",
        ",".join(TASKS),
        "--models",
        SHARED / "models" / "stories15m-llama2",
        "--methods",
        "lora",
        "--data-root",
        SHARED / "data",
    )
    short = ("evaluate.max_new_tokens=24",)
    done = peftbench("run", *ask, "--store", tmp_path, "--threads", "1", *SMALL, *short)
    assert done.code == 0, done.err
    records = {record.spec.task.name: record for record in Store(tmp_path).records()}
    assert tuple(sorted(records)) == TASKS
    for record in records.values():
        assert record.fit is not None
        assert record.test is not None
        assert record.cost is not None
        assert record.fit.examples + record.fit.unfit + (record.validation.examples if record.validation else 0) <= 24
        assert record.test.examples == 6
        assert record.cost.peaks
        answers = list(Store(tmp_path).predictions(record.run_id))
        assert sum(row.split == "test" for row in answers) == 6
    passages = records["boolq"]
    assert passages.fit is not None
    assert passages.fit.cut > 0, "passages are longer than the context of this model"


def test_answers_are_cut_only_where_the_context_is_short(tmp_path: Path) -> None:
    """GSM8K on a context of 256: at most half of it is kept for the answer, and the spec says so."""
    ask = ("--tasks", "gsm8k", "--models", SHARED / "models" / "stories15m-llama2", "--methods", "zero_shot")
    done = peftbench(
        "run", *ask, "--data-root", SHARED / "data", "--store", tmp_path, "--no-report", "evaluate.limit=2"
    )
    assert done.code == 0, done.err
    (record,) = Store(tmp_path).records()
    assert record.spec.evaluate.max_new_tokens == 128


def test_names_and_numbers_of_labels_are_the_same_task(tmp_path: Path) -> None:
    """A mirror that writes class names instead of numbers gives the same questions and answers."""
    from peftbench import registry
    from peftbench.tasks._task import items

    task = registry.load("tasks", "rte").value
    root = str(SHARED / "data")
    rows = task.source.rows("test", root, task.source.identity(root))[:50]
    named = [{**row, "label": ["entailment", "not_entailment"][row["label"]]} for row in rows]
    assert items(task, enumerate(rows), "test") == items(task, enumerate(named), "test")
