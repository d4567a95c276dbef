"""The chance levels that no count of labels gives: what the best constant answer that was found scores on real rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from peftbench import registry
from peftbench.metrics import published
from peftbench.tasks._rehosted import CHANCE, PUBLISHED
from peftbench.tasks._task import Item, Split, Task, items

pytestmark = pytest.mark.shared


def rows(task: Task, split: Split, shared: Path) -> list[Item]:
    root = str(shared / "data")
    return items(task, enumerate(task.source.rows(split, root, task.source.identity(root))), split)


def constant(task: Task, answer: str, asked: Sequence[Item]) -> float:
    """The headline of one answer to every question."""
    metric = task.metrics[0]
    return metric.over(metric.statistics(task.read(answer), item.references) for item in asked)


# The training row whose answer is the best constant of docs/decisions/rows.md.
@pytest.mark.parametrize(
    ("name", "best"), [("conala", "train/570"), ("codealpacapy", "train/975"), ("apps", "train/27")]
)
def test_chance_of_code_is_the_best_constant_found(shared: Path, name: str, best: str) -> None:
    task: Task = registry.load("tasks", name).value
    asked = rows(task, "test", shared)
    (answer,) = [item.example.target for item in rows(task, "train", shared) if item.id == best]
    assert constant(task, answer, asked) == pytest.approx(task.chance, abs=0.005)
    assert constant(task, "", asked) == 0


def test_chance_of_record_is_the_entity_that_is_right_most_often(shared: Path) -> None:
    task: Task = registry.load("tasks", "record").value
    asked = rows(task, "test", shared)
    common = Counter(answer for item in asked for answer in item.references).most_common(20)
    assert max(constant(task, answer, asked) for answer, _ in common) == pytest.approx(task.chance, abs=0.005)


def by_the_script(task: Task, answer: str, asked: Sequence[Item]) -> float:
    """The same by the published metric, which looks at answers as they are written."""
    metric = task.published[0]
    written = (item.example.accepted or (item.example.target,) for item in asked)
    return metric.over(metric.statistics(answer, right) for right in written)


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("conala", "df.groupby('a').sum()"),
        ("codealpacapy", "print(x)"),
        ("apps", "print(sum(map(int, input().split())))"),
        ("record", "Donald Trump"),
        ("gsm8k", "#### 5"),
        ("svamp", "(1) = 1"),
    ],
)
def test_chance_by_the_published_metric_is_the_best_constant_found(shared: Path, name: str, best: str) -> None:
    task: Task = registry.load("tasks", name).value
    assert by_the_script(task, best, rows(task, "test", shared)) == pytest.approx(CHANCE[name], abs=0.005)


# The mirror holds a part of the official split of these: what is declared is of all of it.
PARTS = {"mnli", "qqp", "sst2"}


@pytest.mark.parametrize("name", [name for name, one in PUBLISHED.items() if one.words])
def test_chance_of_classes_by_the_published_metric_is_that_of_the_best_class(shared: Path, name: str) -> None:
    task, words = registry.load("tasks", name).value, PUBLISHED[name].words
    metric = published.classes(words)[0]
    data = task.source.rows("test", str(shared / "data"), task.source.identity(str(shared / "data")))
    right = [PUBLISHED[name].answers(row) for row in data]
    best = max(metric.over(metric.statistics(word, answers) for answers in right) for word in words)
    assert best == pytest.approx(CHANCE[name], abs=0.015 if name in PARTS else 0.005)
