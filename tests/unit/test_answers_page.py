"""The page that tells how answers are read: its examples are read so, and it names every task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peftbench import registry
from peftbench.tasks._task import Task

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "answers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| (\w+) \| `(.+)` \| (?:`(.+)`|–) \|$", PAGE, flags=re.MULTILINE)
READERS = re.findall(r"^\| ([a-z ]+) \| .+ \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)


def test_every_line_of_the_table_is_an_example() -> None:
    lines = PAGE.partition("| task | written")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(EXAMPLES) == len(lines) > 40
    assert {read == "" for _, _, read in EXAMPLES} == {True, False}


@pytest.mark.parametrize(("name", "written", "read"), EXAMPLES, ids=[f"{name}-{text}" for name, text, _ in EXAMPLES])
def test_an_example_is_read_as_the_page_says(name: str, written: str, read: str) -> None:
    task: Task = registry.load("tasks", name).value
    assert task.read(written.replace("\\n", "\n").replace("~~~", "```")) == (read or None)


def test_each_of_the_27_tasks_has_one_reader() -> None:
    named = [name for reader, tasks in READERS if reader != "reader" for name in re.findall(r"\w+", tasks)]
    ours = [name for name in registry.names("tasks") if registry.load("tasks", name).value.group]
    assert [name for name in named if name in ours].count("mnli") == 1
    assert sorted(name for name in named if name in ours) == sorted(ours)
