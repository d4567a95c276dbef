"""The examples of docs/decisions/published-metrics.md: what the two readings say of the same answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from peftbench import registry
from peftbench.evaluation.judge import judge, summarise
from peftbench.record import PUBLISHED
from peftbench.tasks._task import Task, items

PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "published-metrics.md"

Row = dict[str, Any]


def both(name: str, rows: list[Row], texts: list[str]) -> tuple[float | None, float | None]:
    """The headline of either reading."""
    task: Task = registry.load("tasks", name).value
    found = summarise(task, judge(task, items(task, enumerate(rows), "test"), texts, "test"), cut=0, unfit=0)
    return found.metrics.get(task.headline), found.metrics.get(PUBLISHED + task.published[0].name)


def specimen(name: str, **changes: object) -> Row:
    return {**registry.load("tasks", name).value.specimen[0], **changes}


RTE = [specimen("rte", label=0)] * 9 + [specimen("rte", label=1)]
STSB = [specimen("stsb", label=label) for label in (0.0, 1.0, 5.0)]
RECORD = [specimen("record", answers=["Ada Brook", "Brook", "A. Brook"]), specimen("record", answers=["Kell"])]
CONALA = list(registry.load("tasks", "conala").value.specimen)
CASES = [specimen("conala", snippet="ok = value is None")]
REFUSAL = "I cannot help with that."
POEM = "O rose, thou art sick"

EXAMPLES: list[tuple[str, list[Row], list[str], float | None, float | None, str]] = [
    ("svamp", [specimen("svamp")] * 3, ["(1 + 1) = 2"] * 3, 0, 1, "`(1 + 1) = 2` to every problem | 0 | 1 |"),
    ("sst2", [specimen("sst2", label=1)], ["positive."], 1, 0, "`positive.` to a positive review | 1 | 0 |"),
    ("rte", RTE, ["yes"] * 10, 0.9, 0, "one `no` answered with `yes` | 0.9 | 0 |"),
    ("rte", [specimen("rte", label=1)] * 2, ["no", POEM], 0.5, 2 / 3, "the other with a poem | 0.5 | 0.67 |"),
    ("stsb", STSB, ["3"] * 3, 0, None, "`3` to every pair | 0 | undefined |"),
    ("stsb", STSB, ["0", "1", POEM], 0.983, -0.7559, "for 0, 1 and 5 | 0.98 | −0.76 |"),
    ("conala", CONALA, [""] * 2, 0, 0.25, "CoNaLa: nothing, to every question | 0 | 0.25 |"),
    ("conala", CONALA, [REFUSAL] * 2, 0, 0.25, "`I cannot help with that.` to every question | 0 | 0.25 |"),
    ("conala", CASES, ["OK = value is none"], 0.381, 1, "`OK = value is none` for `ok = value is None` | 0.38 | 1 |"),
    ("record", RECORD, ["brook", POEM], 0.5, 0.75, "one with one missed | 0.5 | 0.75 |"),
]


@pytest.mark.parametrize(("name", "rows", "texts", "own", "published", "line"), EXAMPLES)
def test_examples_of_the_page(
    *, name: str, rows: list[Row], texts: list[str], own: float | None, published: float | None, line: str
) -> None:
    found = both(name, rows, texts)
    assert found[0] == pytest.approx(own, abs=1e-3)
    assert found[1] is None if published is None else found[1] == pytest.approx(published, abs=1e-3)
    assert line in PAGE.read_text(encoding="utf-8")


def test_every_task_of_the_page_is_one_and_all_are_there() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("|---|---|---|\n")[2].partition("\n\n")[0]
    named = {word for line in table.splitlines() for word in line.split("|")[1].split()}
    real = {name for name in registry.shipped("tasks") if registry.load("tasks", name).value.group}
    assert named == real
    assert len(real) == 27


def test_texts_that_were_never_written_count_as_empty() -> None:
    task: Task = registry.load("tasks", "sst2").value
    found = items(task, enumerate([specimen("sst2", label=1)]), "test")
    result = summarise(task, judge(task, found, [None], "test"), cut=0, unfit=1)
    assert set(result.metrics.values()) == {0.0}
    assert not any(math.isnan(value) for value in result.metrics.values())
