"""What becomes of rows that are hard to ask: each is asked well, left out, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.awkward import FOLDER, AwkwardRow, awkward_rows, complaint, may_be_written, outcome, rendered, visible
from peftbench import registry
from peftbench.tasks._task import Example, Row, Task
from peftbench.tasks.rte import TASK as RTE
from peftbench.tasks.sst2 import TASK as SST2

EVERYWHERE = (
    "emoji, other scripts, marks that combine, right to left",
    "line breaks, tabs, space around, braces, percent signs",
    "what models take for control tokens",
    "the answer's own words and marks in the text",
    "2,000 words",
    "half a character",
)
TASKS = [name for name in registry.names("tasks") if registry.load("tasks", name).value.group]


@pytest.mark.parametrize("name", TASKS)
def test_awkward_rows_are_asked_as_before(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = FOLDER / f"{name}.txt"
    golden = file.read_text(encoding="utf-8") if file.exists() else None
    text = rendered(registry.load("tasks", name).value, awkward_rows(name), tmp_path)
    if request.config.getoption("--update-golden") and may_be_written(text, golden):
        file.write_text(text, encoding="utf-8")
        golden = text
    assert complaint(text, golden) is None


def test_every_task_of_a_collection_has_awkward_rows() -> None:
    assert len(TASKS) == 27
    assert sorted(file.stem for file in FOLDER.glob("*.jsonl")) == sorted(TASKS)
    assert sorted(file.stem for file in FOLDER.glob("*.txt")) == sorted(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_kind_of_awkwardness_is_there(name: str) -> None:
    """And the long passage has as many words as it says."""
    rows = {row.what: row.row for row in awkward_rows(name)}
    assert set(EVERYWHERE) <= set(rows)
    assert any(what.startswith("hidden answer: ") for what in rows)
    long = rows["2,000 words"].values()
    assert max(len(value.split(" ")) for value in long if isinstance(value, str)) == 2000


@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_asked_of_a_row_that_holds_nothing_or_half_of_something(name: str, tmp_path: Path) -> None:
    """Not even as the word None, which an f-string makes of a null."""
    for row in awkward_rows(name):
        text = outcome(registry.load("tasks", name).value, row.row, tmp_path)
        assert "None" not in text, row.what
        if row.what == "half a character":
            assert "holds half of a character" in text


ROW = {"sentence": "a bright little comedy ", "label": 1}


def asked(**changes: Any) -> Callable[[Row], Example]:
    return lambda row: replace(SST2.ask(row), **changes)


class TestGolden:
    """What changes under a version is found and cannot be written over; rows come and go."""

    rows = (AwkwardRow("a", ROW), AwkwardRow("b", {**ROW, "label": -1}), AwkwardRow("c", {**ROW, "label": 9}))

    def text(self, folder: Path, task: Task = SST2, rows: tuple[AwkwardRow, ...] = rows) -> str:
        return rendered(task, list(rows), folder)

    def test_the_same(self, tmp_path: Path) -> None:
        golden = self.text(tmp_path)
        assert complaint(self.text(tmp_path), golden) is None
        assert "Write the golden file" in str(complaint(golden, None))

    @pytest.mark.parametrize(
        "changed",
        [
            asked(instruction="Good or bad?"),
            asked(target="negative"),
            asked(accepted=("positive", "negative")),
            lambda row: SST2.ask({**row, "label": abs(row["label"])}),
        ],
        ids=["message", "target", "also right", "asked instead of left out"],
    )
    def test_another_example_of_the_same_version(self, changed: Callable[[Row], Example], tmp_path: Path) -> None:
        golden = self.text(tmp_path)
        task = replace(SST2, ask=changed)
        assert "did not rise" in str(complaint(self.text(tmp_path, task), golden))
        assert not may_be_written(self.text(tmp_path, task), golden)
        raised = self.text(tmp_path, replace(task, version=SST2.version + 1))
        assert "--update-golden" in str(complaint(raised, golden))
        assert may_be_written(raised, golden)

    def test_rows_come_and_go_and_refusals_are_reworded(self, tmp_path: Path) -> None:
        golden = self.text(tmp_path)
        fewer = self.text(tmp_path, rows=(*self.rows[1:], AwkwardRow("a", {**ROW, "label": 0})))
        kinder = golden.replace("is not declared", "is unknown")
        for text in (fewer, kinder):
            assert "--update-golden" in str(complaint(text, golden))
            assert may_be_written(text, golden)

    def test_a_row_that_is_refused_from_now_on(self, tmp_path: Path) -> None:
        golden = self.text(tmp_path)
        strict = replace(SST2, ask=lambda row: SST2.ask({**row, "label": 9}))
        assert "did not rise" in str(complaint(self.text(tmp_path, strict), golden))


def test_a_null_that_is_asked_as_a_word_is_seen(tmp_path: Path) -> None:
    def careless(row: Row) -> Example:
        return replace(RTE.ask({**row, "sentence1": ""}), body=f"Text: {row['sentence1']}")

    (row,) = (row.row for row in awkward_rows("rte") if row.what == "null in sentence1")
    assert "None" in outcome(replace(RTE, ask=careless), row, tmp_path)
    assert "nothing stands in sentence1" in outcome(RTE, row, tmp_path)


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\u200fb\t\u00a0c  \nd\ud83d") == "a<U+200F>b<U+0009><U+00A0>c<space><space>\nd<U+D83D>"
    assert visible(" ".join(map(str, range(100)))).endswith(" 98 99")
    assert visible(" ".join(map(str, range(101)))) == "0 1 2 3 4 5 6 7 <85 words> 93 94 95 96 97 98 99 100"
