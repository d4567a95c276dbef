"""Data of one's own, without code: what is broken is told with file, row and remedy, what is whole is trained on."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from e2e.command import Result, peftbench, snapshot
from peftbench.store import Store

TASK = """
about: Is a support ticket urgent?
train: train.jsonl
test: test.jsonl
instruction: Is this ticket urgent? Answer yes or no.
body: "{subject}\\n{text}"
target: "{urgent}"
labels: {0: no, 1: yes}
id: ticket
"""
URGENT = ("Nothing works.", "The rack is burning.", "All data are gone.", "Nobody can log in.")
CALM = ("All good now.", "A dark theme would be nice.", "How do I change my picture?", "Thank you.")
ROWS = [
    {"ticket": 2 * place + urgent, "subject": f"Ticket {place}", "text": text, "urgent": urgent}
    for urgent, texts in ((0, CALM), (1, URGENT))
    for place, text in enumerate(texts)
]
TESTED = [{**row, "subject": f"Later: {row['subject']}"} for row in ROWS]
SMALL = ("--models", "tiny", "--seeds", "1", "--no-report", "train.max_steps=3", "evaluate.limit=4")


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def changed(row: int, **columns: Any) -> list[dict[str, Any]]:
    """The rows with one of them changed; None takes a column away."""
    rows = [dict(one) for one in ROWS]
    rows[row - 1] = {key: value for key, value in {**rows[row - 1], **columns}.items() if value is not None}
    return rows


def whole(folder: Path) -> None:
    (folder / "mine.yaml").write_text(TASK, encoding="utf-8")
    (folder / "train.jsonl").write_bytes(lines(ROWS))
    (folder / "test.jsonl").write_bytes(lines(TESTED))


def with_file(name: str, content: bytes, old: str = "", new: str = "") -> Callable[[Path], None]:
    """A folder where one file is another, and the task says so."""

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(content)
        (folder / "mine.yaml").write_text(TASK.replace(old, new) if old else TASK, encoding="utf-8")

    return prepare


def as_csv(content: bytes) -> Callable[[Path], None]:
    return with_file("test.csv", content, "test.jsonl", "test.csv")


def as_task(old: str, new: str) -> Callable[[Path], None]:
    assert old in TASK
    return with_file("train.jsonl", lines(ROWS), old, new)


CUT = gzip.compress(lines([{**row, "ticket": place} for place, row in enumerate(ROWS * 500)]))
MARKED = lines(ROWS[:3]) + codecs.BOM_UTF8 + lines(ROWS[3:])
CASES: Mapping[str, tuple[Callable[[Path], None], str, str]] = {
    "label": (
        with_file("train.jsonl", lines(changed(7, urgent=2))),
        "train.jsonl, row 7: the label '2' is not declared ('0', '1').",
        'declare it in mine.yaml: labels: {"2": WORD}',
    ),
    "label in CSV": (
        as_csv(table(changed(8, urgent="maybe"))),
        "test.csv, row 8 (line 9): the label 'maybe' is not declared ('0', '1').",
        "Mend or remove the row",
    ),
    "no label": (
        as_csv(table(changed(2, urgent=""))),
        "test.csv, row 2 (line 3): the label '' is not declared",
        'labels: {"": null}',
    ),
    "missing column": (
        with_file("train.jsonl", lines(changed(5, subject=None))),
        "train.jsonl, row 5 has no column 'subject'; it has: text, ticket, urgent.",
        "Mend or remove the row",
    ),
    "value too few": (
        as_csv(table(ROWS) + b"99,Short\r\n"),
        "test.csv, row 9 (line 10) has 2 values for 4 columns.",
        "Mend or remove the row.",
    ),
    "cut gzip": (
        with_file("train.jsonl.gz", CUT[: len(CUT) // 2], "train.jsonl", "train.jsonl.gz"),
        "train.jsonl.gz cannot be read after row ",
        "Copy the file again.",
    ),
    "not JSON": (
        with_file("test.jsonl", lines(ROWS[:4]) + b'{"ticket": 5,\n'),
        "test.jsonl, row 5 is not JSON: ",
        "Mend or remove the row.",
    ),
    "mark inside": (
        with_file("train.jsonl", MARKED),
        "train.jsonl, row 4 begins with a byte order mark",
        "Remove these three bytes (EF BB BF) there.",
    ),
    "other mark": (
        with_file("train.jsonl", lines(ROWS).decode().encode("utf-16")),
        "train.jsonl is UTF-16, not UTF-8.",
        "iconv -f UTF-16 -t UTF-8",
    ),
    "id twice": (
        with_file("train.jsonl", lines(changed(6, ticket=4))),
        "train.jsonl, row 6 has the 'ticket' of row 3: '4'.",
        "Remove one of them",
    ),
    "id twice in CSV": (
        as_csv(table(changed(6, ticket=4))),
        "test.csv, row 6 (line 7) has the 'ticket' of row 3 (line 4): '4'.",
        "Remove one of them",
    ),
    "unknown field": (
        as_task("{subject}", "{subjekt}"),
        "mine.yaml, body: {subjekt} is no column of train.jsonl, which has: subject, text, ticket, urgent.",
        "Did you mean {subject}?",
    ),
    "unknown field in the test file": (
        with_file("test.csv", table([{"id": 1, "headline": "x", "text": "y", "urgent": 1}]), "test.jsonl", "test.csv"),
        "mine.yaml, body: {subject} is no column of test.csv, which has: headline, id, text, urgent.",
        "Name one of these.",
    ),
    "format in a field": (
        as_task("{urgent}", "{urgent:.0f}"),
        "mine.yaml, target: {urgent:.0f} is no column of train.jsonl",
        "Did you mean {urgent}?",
    ),
    "file of rows": (
        as_task("train.jsonl", "trian.jsonl"),
        "There is no file trian.jsonl, which mine.yaml names as its train.",
        "train: rows.csv",
    ),
    "key": (as_task("body:", "bodi:"), "Unknown key 'bodi' in mine.yaml.", "Did you mean 'body'?"),
}


def asked(folder: Path, *more: str) -> Result:
    return peftbench(
        "run", "--tasks", "mine.yaml", "--methods", "lora", *SMALL, *more, "--store", "store", folder=folder
    )


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_with_file_row_and_remedy(case: str, tmp_path: Path) -> None:
    prepare, words, remedy = CASES[case]
    whole(tmp_path)
    prepare(tmp_path)
    before = snapshot(tmp_path)
    result = asked(tmp_path)
    assert result.code == 2
    assert words in result.sentence
    assert remedy in result.sentence
    assert "Traceback" not in result.err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("case", ["label", "missing column", "cut gzip", "not JSON", "mark inside", "id twice"])
def test_a_check_finds_it_too(case: str, tmp_path: Path) -> None:
    prepare, words, remedy = CASES[case]
    whole(tmp_path)
    prepare(tmp_path)
    result = peftbench("check", "mine.yaml", "--json", folder=tmp_path)
    assert result.code == 1
    (failed,) = [check for check in json.loads(result.out) if not check["passed"]]
    assert failed["name"] in {"rows", "loads"}
    assert words.rstrip(".") in failed["detail"]
    assert remedy in failed["fix"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl with a mark"])
def test_a_task_without_code_is_run(kind: str, tmp_path: Path) -> None:
    whole(tmp_path)
    if kind == "csv":
        as_csv(table(TESTED))(tmp_path)
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train.parquet")
        (tmp_path / "mine.yaml").write_text(TASK.replace("train.jsonl", "train.parquet"), encoding="utf-8")
    else:
        with_file("train.jsonl", codecs.BOM_UTF8 + lines(ROWS))(tmp_path)
    assert peftbench("check", "mine.yaml", folder=tmp_path).code == 0
    result = asked(tmp_path)
    assert result.code == 0, result.err
    (record,) = Store(tmp_path / "store").records()
    assert (record.spec.task.name, record.headline, record.chance) == ("mine", "accuracy", 0.5)
    assert record.test is not None
    assert set(record.test.metrics) == {"accuracy", "macro_f1"}
    assert record.test.examples == 4
    assert record.fit is not None
    assert record.fit.steps == 3


def test_other_rows_are_another_run_and_the_same_rows_elsewhere_are_not(tmp_path: Path) -> None:
    def ids(folder: Path) -> list[str]:
        result = peftbench("plan", "--tasks", "mine.yaml", "--methods", "lora", *SMALL[:4], "--json", folder=folder)
        return [run["run_id"] for run in json.loads(result.out)["runs"]]

    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        whole(tmp_path / name)
        found.append(ids(tmp_path / name))
    assert found[0] == found[1]
    with_file("test.jsonl", lines(ROWS[1:]))(tmp_path / "two")
    found.append(ids(tmp_path / "two"))
    as_task("Answer yes or no.", "Yes or no?")(tmp_path / "one")
    found.append(ids(tmp_path / "one"))
    assert len(set(map(str, found[1:]))) == 3


def test_a_new_task_without_code_works_as_it_is(tmp_path: Path) -> None:
    for name in ("mine.yaml", "other.yml"):
        assert f"{name} and {name[:-4].rstrip('.')}.csv" in peftbench("new", "task", name, folder=tmp_path).out
        assert peftbench("check", name, folder=tmp_path).code == 0
    card = json.loads(peftbench("show", "task", "mine.yaml", "--json", folder=tmp_path).out)
    assert card["metrics"] == ["accuracy", "macro_f1"]
    before = snapshot(tmp_path)
    for name in ("mine.yaml", "mine.yml"):
        again = peftbench("new", "task", name, folder=tmp_path)
        assert (again.code, "exists. Take another name" in again.sentence) == (2, True)
    assert "is not a Python file" in peftbench("new", "method", "mine2.yaml", folder=tmp_path).sentence
    other = peftbench("new", "task", "mine.txt", folder=tmp_path).sentence
    assert "mine.txt is neither Python nor YAML. Name it for example: peftbench new task mine.yaml" in other
    rows = peftbench("show", "task", "mine.csv", folder=tmp_path).sentence
    assert "mine.csv is a file, and none that holds a task. Write one that does: peftbench new task mine" in rows
    assert snapshot(tmp_path) == before


def test_a_task_is_told_from_a_suite(tmp_path: Path) -> None:
    whole(tmp_path)
    assert (
        "mine.yaml is a task, not a suite. Write: --tasks mine.yaml"
        in peftbench("run", "mine.yaml", folder=tmp_path).sentence
    )
    (tmp_path / "suite.yaml").write_text("tasks: mine.yaml\nmodels: tiny\nmethods: [zero_shot]\n")
    assert peftbench("plan", "suite.yaml", folder=tmp_path).code == 0
    elsewhere = peftbench("plan", tmp_path / "suite.yaml", folder=tmp_path.parent)
    assert elsewhere.code == 0, elsewhere.err
