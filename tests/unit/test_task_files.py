"""Tasks without code: what a YAML file says is what a task does, and what it says wrong is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from peftbench import registry
from peftbench.errors import DataProblem, InvalidSpec, UnknownName, UsageError
from peftbench.metrics._metric import Metric
from peftbench.tasks._held_out import HeldOut
from peftbench.tasks._source import Files, HubDataset
from peftbench.tasks._task import Example, PlacedRow, Task, items
from peftbench.testing import check_member, check_task

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "so good", "label": 1, "more": {"by": ["Ann", "Bob"], "n": 2}},
    {"id": 2, "text": "so bad", "label": 0, "more": {"by": ["Cid"], "n": 2.5}},
    {"id": 3, "text": "so so", "label": 1, "more": {"by": ["Dee"], "n": -1}},
]
HEAD: dict[str, Any] = {
    "train": "train.jsonl",
    "test": "test.jsonl",
    "instruction": "Good or bad?",
    "body": "{text}",
    "target": "{label}",
    "labels": {0: "bad", 1: "good"},
}


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text(lines(ROWS))
    (tmp_path / "test.jsonl").write_text(lines(ROWS[::-1]))
    return tmp_path


def dumped(value: Any) -> str:
    """As YAML: JSON, but that keys need not be text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumped(key)}: {dumped(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(dumped, value)) + "]" if isinstance(value, list) else json.dumps(value)


def load(folder: Path, without: str = "", **changes: Any) -> Task:
    said = {key: value for key, value in {**HEAD, **changes}.items() if key not in without.split()}
    (folder / "mine.yaml").write_text(dumped(said), encoding="utf-8")
    task: Task = registry.load("tasks", str(folder / "mine.yaml")).value
    return task


def refused(folder: Path, without: str = "", **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, without, **changes)
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_what_is_not_said_has_a_value(folder: Path) -> None:
    task = load(folder)
    assert task.source == Files(folder / "train.jsonl", folder / "test.jsonl")
    assert task.ask(ROWS[0]) == Example("Good or bad?", "good", "so good")
    assert [metric.name for metric in task.metrics] == ["accuracy", "macro_f1"]
    assert (task.chance, task.max_new_tokens, task.version, task.category) == (0.5, 8, 1, "own data")
    assert (task.licence, task.citation) == ("not stated", "not stated")
    assert task.specimen == (ROWS[0], ROWS[1])


def test_what_is_said_is_kept(folder: Path) -> None:
    said: dict[str, Any] = {
        "chance": 0.6,
        "max_new_tokens": 3,
        "version": 7,
        "category": "reviews",
        "license": "mine",
        "citation": "me",
    }
    task = load(folder, id="id", group="{more.n}", question="By {more.by.0}?", specimen=ROWS[1:2], **said)
    assert task.source == Files(folder / "train.jsonl", folder / "test.jsonl", "id")
    assert task.ask(ROWS[0]) == Example("Good or bad?", "good", "so good", "By Ann?", "2")
    found = (task.chance, task.max_new_tokens, task.version, task.category, task.licence, task.citation)
    assert (*found, task.specimen) == (*said.values(), (ROWS[1],))


def test_a_member_has_the_name_of_its_file_and_the_hash_of_its_content(folder: Path) -> None:
    load(folder, about="How was it?")
    member = registry.load("tasks", str(folder / "mine.yaml"))
    assert (member.name, member.about) == ("mine", "How was it?")
    assert member.file == str(folder / "mine.yaml")
    (folder / "mine.yml").write_bytes((folder / "mine.yaml").read_bytes())
    assert registry.load("tasks", str(folder / "mine.yml")).plugin == member.plugin
    load(folder, about="How was that?")
    assert registry.load("tasks", str(folder / "mine.yaml")).plugin != member.plugin


def test_only_tasks_are_written_in_yaml(folder: Path) -> None:
    load(folder)
    for family in ("methods", "executors"):
        with pytest.raises(UsageError, match=f"is YAML, and {family} are written in Python"):
            registry.load(family, str(folder / "mine.yaml"))
    with pytest.raises(UsageError, match=r"There is no file gone.yaml. Write one with: peftbench new task gone.yaml"):
        registry.load("tasks", "gone.yaml")
    with pytest.raises(UsageError, match=r"There is no file gone.yml. Write one with: peftbench new task gone.yml"):
        check_member("gone.yml")


# ---- answers -------------------------------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[Any, str, dict[str, str | None]]] = {
    "line": ("line", "so good", {"so good\nand more": "so good", "\n": None}),
    "text": ("text", "so good", {" so good\nand more ": "so good\nand more", "\n": None}),
    "nothing said": (None, "so good", {"so good\nand more": "so good\nand more"}),
    "number": ("number", "2.50", {"2.5": "2.5", "-3\nor 4": "-3", "about 2": None}),
    "number after": ({"use": "number", "after": "="}, "x = 2", {"1 = 3": "3", "3": None}),
    "number on a scale": ({"use": "number", "low": 0, "high": 5}, "5", {"5.1": None, "-0.1": None, "0": "0"}),
    "code": ("code", "x = 1", {"```python\nx = 1\n```\nThat is it.": "x = 1"}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_is_read_as_is_said(case: str, folder: Path) -> None:
    answer, target, answers = ANSWERS[case]
    task = load(folder, "labels" + (" answer" if answer is None else ""), answer=answer, target="{text}")
    assert task.read(target) is not None
    assert {text: task.read(text) for text in answers} == answers
    assert task.chance == 0


@pytest.mark.parametrize(
    ("answer", "metrics"),
    [
        ("line", ["exact_match", "token_f1"]),
        ("text", ["exact_match", "token_f1"]),
        ("number", ["accuracy"]),
        ("code", ["codebleu"]),
    ],
)
def test_every_kind_of_answer_has_its_metrics(answer: str, metrics: list[str], folder: Path) -> None:
    task = load(folder, "labels", answer=answer, target="{more.n}")
    assert [metric.name for metric in task.metrics] == metrics


def test_words_are_read_like_those_of_any_task(folder: Path) -> None:
    task = load(folder, labels={"0": "not at all", "1": "at all"})
    assert [task.read(text) for text in ("At all.", "not at all", "not", "bad")] == ["at all", "not at all", None, None]
    assert task.ask(ROWS[1]).target == "not at all"


@pytest.mark.parametrize(
    ("labels", "row", "target"),
    [
        ({0: "bad", 1: "good"}, {"label": "1"}, "good"),
        ({0: "bad", 1: "good"}, {"label": " 0 "}, "bad"),
        ({True: "yes", False: "no"}, {"label": True}, "yes"),
        ({"true": "yes", "false": "no"}, {"label": False}, "no"),
        ({-1: "bad", 0: "so so", 1: "good"}, {"label": -1}, "bad"),
        ({1: "bad", 2: "bad", 3: "good"}, {"label": 2}, "bad"),
        ({0.5: "half", 1: "all"}, {"label": 0.5}, "half"),
        (["good", "bad"], {"label": "bad"}, "bad"),
        ({" a": "good", "b ": "bad"}, {"label": "b"}, "bad"),
        ([1, 2, 3], {"label": 3}, "3"),
        ({0: 0, 1: True}, {"label": 1}, "true"),
    ],
)
def test_a_label_is_the_word_of_its_value(labels: Any, row: dict[str, Any], target: str, folder: Path) -> None:
    assert _without_files(folder, labels).ask({"text": "x", **row}).target == target


def _without_files(folder: Path, labels: Any) -> Task:
    return load(folder, "train test", hub={"id": "owner/name"}, labels=labels)


def test_a_row_whose_label_is_null_is_left_out(folder: Path) -> None:
    task = _without_files(folder, {0: "bad", 1: "good", -1: None, "": None})
    rows = [{"text": "x", "label": label} for label in (0, -1, 1, None, "")]
    assert [item.id for item in items(task, enumerate(rows), "test")] == ["test/0", "test/2"]
    assert task.chance == 0.5


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"text": "x", "label": 2},
            "the label '2' is not declared ('0', '1'). Mend or remove the row, or declare it in",
        ),
        ({"text": "x", "label": None}, "the label '' is not declared"),
        ({"text": "x", "label": 1.0}, "the label '1.0' is not declared"),
        ({"text": "x", "label": [1]}, "the column 'label' holds a list; name a part of it: {label.0}"),
        ({"text": {"a": 1}, "label": 1}, "the column 'text' holds a dict; name a part of it: {text.KEY}"),
        ({"text": b"\xff", "label": 1}, "the column 'text' holds b'\\xff', which is no text"),
        ({"text": float("inf"), "label": 1}, "the column 'text' holds inf, which is no text"),
        ({"tekst": "x", "label": 1}, "has no column 'text'; it has: label, tekst. Did you mean 'text'?"),
    ],
)
def test_a_row_that_cannot_be_asked_is_a_sentence(row: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(DataProblem) as caught:
        items(load(folder), [(0, row)], "test")
    assert words.replace("Did you mean 'text'?", "Did you mean 'tekst'?") in str(caught.value)


def test_of_many_labels_the_first_are_named(folder: Path) -> None:
    task = _without_files(folder, [f"word{place}" for place in range(20)])
    with pytest.raises(DataProblem, match=r"not declared \('word0', .*, 'word7', 12 more\)\."):
        items(task, [(0, {"text": "x", "label": "word20"})], "test")


def test_a_target_that_cannot_be_read_is_told(folder: Path) -> None:
    task = load(folder, "labels", answer="number", target="{more.n}")
    with pytest.raises(
        DataProblem, match=r"Row test/0: the target 'two' is no number that can be read\. Mend or remove"
    ):
        items(task, [(0, {"text": "x", "more": {"n": "two"}})], "test")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 0, "high": 5}, "the target '7' is no number from 0 up to 5 that can be read."),
        ({"after": "#", "low": 0.5}, "the target '7' is no number behind '#' from 0.5 that can be read."),
    ],
)
def test_a_number_that_cannot_be_read_is_told_with_its_scale(options: dict[str, Any], words: str, folder: Path) -> None:
    task = load(folder, "labels", answer={"use": "number", **options}, target="{more.n}")
    with pytest.raises(DataProblem) as caught:
        items(task, [(0, {"text": "x", "more": {"n": 7}})], "test")
    assert words in caught.value.message


@pytest.mark.parametrize("target", [1e-05, 2.5e-07, 1e16, 1e22, -1e-300])
def test_a_number_of_any_size_is_a_target(target: float, folder: Path) -> None:
    task = load(folder, "labels", answer="number", target="{more.n}")
    (item,) = items(task, [(0, {"text": "x", "more": {"n": target}})], "test")
    assert float(item.references[0]) == target


@pytest.mark.parametrize(("label", "remedy"), [("", 'labels: {"": null}'), ("2", 'labels: {"2": WORD}')])
def test_an_empty_label_is_offered_null(label: str, remedy: str, folder: Path) -> None:
    with pytest.raises(DataProblem) as caught:
        items(load(folder), [(0, {"text": "x", "label": label})], "test")
    assert caught.value.fix.endswith(remedy)


@pytest.mark.parametrize("part", ["instruction", "body", "question", "target", "group", "accepted"])
def test_half_of_a_character_inside_of_a_column_is_told(part: str, folder: Path) -> None:
    """A lone surrogate that a task makes itself, as of JSON in a column, could be neither hashed nor written."""
    task = load(folder)

    def ask(row: Any) -> Example:
        text = json.loads(row["inner"])
        changes: dict[str, Any] = {part: (text,) if part == "accepted" else text}
        return replace(task.ask(row), **changes)

    row = PlacedRow({"text": "x", "label": 1, "inner": '"good \\ud83d"'}, "rows.jsonl, row 7")
    with pytest.raises(DataProblem) as caught:
        items(replace(task, ask=ask), [(0, row)], "test")
    assert caught.value.message == f"rows.jsonl, row 7: the {part} holds half of a character (\\ud83d)."
    assert caught.value.fix


def test_a_row_that_asks_nothing_is_refused(folder: Path) -> None:
    task = load(folder, "instruction")
    with pytest.raises(DataProblem, match="nothing is asked"):
        items(task, [(0, {"text": " ", "label": 1})], "test")


# ---- metrics -------------------------------------------------------------------------------------------------------

LABELLED: dict[str, tuple[Any, float]] = {
    "accuracy": ("accuracy", 1 / 3),
    "macro_f1": ("macro_f1", 1 / 6),
    "f1": ({"use": "f1", "positive": "good"}, 1 / 2),
    "matthews_correlation": ("matthews_correlation", 0),
}


@pytest.mark.parametrize("name", LABELLED)
def test_the_chance_level_is_that_of_the_best_constant_answer(name: str, folder: Path) -> None:
    asked, chance = LABELLED[name]
    task = load(folder, metrics=asked, labels={0: "bad", 1: "good", 2: "so so"})
    assert task.headline == name
    assert task.chance == pytest.approx(chance)
    (metric,) = task.metrics
    assert isinstance(metric, Metric)
    assert metric.over(metric.statistics(word, (word,)) for word in ("bad", "good", "so so")) == 1


def test_metrics_have_the_names_they_are_asked_for_by(folder: Path) -> None:
    correlations = [{"use": name, "unreadable": 2} for name in ("pearson", "spearman")]
    wanted: dict[str, list[Any]] = {
        "line": ["token_f1", "exact_match", "accuracy"],
        "number": [*correlations, "accuracy"],
        "code": ["codebleu"],
    }
    for answer, asked in wanted.items():
        task = load(folder, "labels", answer=answer, target="{more.n}", metrics=asked)
        names = [one["use"] if isinstance(one, dict) else one for one in asked]
        assert [metric.name for metric in task.metrics] == names


def test_an_unreadable_number_counts_as_is_said(folder: Path) -> None:
    asked = {"use": "pearson", "unreadable": 2}
    (metric,) = load(folder, "labels", answer="number", target="{more.n}", metrics=[asked]).metrics
    assert metric.statistics(None, ("5",)) == metric.statistics("2", ("5",))


# ---- sources -------------------------------------------------------------------------------------------------------


def test_a_data_set_of_the_hub(folder: Path) -> None:
    task = load(folder, "train test", hub={"id": "owner/name"})
    assert task.source == HubDataset("owner/name", None, mirror="name", train="train", test="validation")
    assert task.specimen == ()
    names = {"id": "owner/name", "subset": "s", "train": "a", "test": "b", "revision": "v1", "mirror": "m"}
    task = load(folder, "train test", hub=names, specimen=ROWS[:2])
    assert task.source == HubDataset("owner/name", "s", mirror="m", train="a", test="b", revision="v1")
    assert not [check for check in check_task(task) if not check.passed]
    assert "{tekst} is no column of mine.yaml, specimen" in refused(
        folder, "train test", hub=names, specimen=ROWS[:2], body="{tekst}"
    )


def test_the_mirror_of_a_data_set_of_the_hub(folder: Path) -> None:
    (folder / "name").mkdir()
    for name in ("train", "validation"):
        (folder / "name" / f"{name}.jsonl").write_text(lines(ROWS))
    source = load(folder, "train test", hub={"id": "owner/name"}).source
    assert source.rows("test", str(folder), source.identity(str(folder))) == ROWS


OUTSIDE = [
    "../outside",
    "..",
    ".",
    "",
    "/tmp",
    "a/b",
    "a\\b",
    ".hidden",
    "models",
    "Models",
    "peftbench.lock",
    "a\0",
    "a" * 101,
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_mirror_is_one_folder_inside(folder: Path, name: str) -> None:
    said = refused(folder, "train test", hub={"id": "owner/name", "mirror": name})
    assert f"mine.yaml: {name!r} cannot be the folder of a mirror." in said
    for plain in ("name", "my data", "v1.2_x-y", "größe", "7", "a" * 100):
        source = load(folder, "train test", hub={"id": "owner/name", "mirror": plain}).source
        assert source == HubDataset("owner/name", None, mirror=plain)


@pytest.mark.parametrize("name", ["owner/..", "owner/", "owner/models", "owner/.hidden"])
def test_nor_does_the_name_of_a_data_set_lead_elsewhere(folder: Path, name: str) -> None:
    assert "cannot be the folder of a mirror" in refused(folder, "train test", hub={"id": name})
    source = load(folder, "train test", hub={"id": name, "mirror": "name"}).source
    assert source == HubDataset(name, None, mirror="name")


def test_a_share_is_held_out(folder: Path) -> None:
    rows = [{"id": place, "text": f"{place}", "label": place % 2} for place in range(200)]
    (folder / "all.jsonl").write_text(lines(rows))
    source = load(folder, train="all.jsonl", test=0.2).source
    assert isinstance(source, HeldOut)
    identity = source.identity(None)
    assert identity.startswith("files:")
    train, test = (source.rows(split, None, identity) for split in ("train", "test"))
    assert sorted([*train, *test], key=lambda row: row["id"]) == rows
    assert 20 <= len(test) <= 60
    other = load(folder, train="all.jsonl", test=0.3).source
    assert other.identity(None) != identity
    with pytest.raises(DataProblem, match="is not what the run was planned with"):
        other.rows("test", None, identity)


def test_white_space_around_a_value_moves_no_row(folder: Path) -> None:
    rows = [{"text": f"{space}question {place}{space}", "label": 1} for place in range(50) for space in ("", " ", "\n")]
    (folder / "all.jsonl").write_text(lines(rows))
    source = load(folder, train="all.jsonl", test=0.5, body="This: {text}").source
    sides = [
        {row["text"].strip() for row in source.rows(split, None, source.identity(None))} for split in ("train", "test")
    ]
    assert not sides[0] & sides[1]
    assert all(sides)


def test_rows_of_a_group_and_rows_with_one_question_stay_together(folder: Path) -> None:
    rows = [{"id": place, "text": f"{place // 4}", "label": place % 2, "by": place % 10} for place in range(200)]
    (folder / "all.jsonl").write_text(lines(rows))
    for column, changes in {"text": {}, "by": {"group": "{by}"}}.items():
        source = load(folder, train="all.jsonl", test=0.3, **changes).source
        sides = [
            {row[column] for row in source.rows(split, None, source.identity(None))} for split in ("train", "test")
        ]
        assert not sides[0] & sides[1]
        assert all(sides)


@pytest.mark.parametrize(("share", "words"), [(1e-9, "is held out"), (1 - 1e-9, "is left to train on")])
def test_a_side_without_rows_is_refused(share: float, words: str, folder: Path) -> None:
    source = load(folder, test=share).source
    with pytest.raises(DataProblem, match=words) as caught:
        [source.rows(split, None, source.identity(None)) for split in ("train", "test")]
    assert caught.value.fix


def test_an_id_twice_is_refused_on_whichever_side_it_stands(folder: Path) -> None:
    (folder / "train.jsonl").write_text(lines([{**row, "id": place % 30} for place, row in enumerate(ROWS * 11)]))
    source = load(folder, test=0.5, id="id").source
    with pytest.raises(DataProblem, match=r"row 31 has the 'id' of row 1: '0'"):
        source.rows("test", None, source.identity(None))


def test_a_row_that_cannot_be_placed_on_a_side(folder: Path) -> None:
    (folder / "train.jsonl").write_text(lines([*ROWS, {"id": 4, "label": 1}]))
    source = load(folder, test=0.5).source
    with pytest.raises(DataProblem, match=r"train.jsonl, row 4 has no column 'text'"):
        source.rows("test", None, source.identity(None))


# ---- the specimen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "shown"),
    [("001", (0, 2)), ("000", (0, 1)), ("xx01", (2, 3)), ("0", (0,)), ("x", (0,))],
    ids=["two answers", "one answer", "broken rows", "one row", "nothing right"],
)
def test_the_specimen_shows_two_questions_and_two_answers(labels: str, shown: tuple[int, ...], folder: Path) -> None:
    rows = [{"text": f"{place}", "label": label} for place, label in enumerate(labels)]
    (folder / "train.jsonl").write_text(lines(rows))
    assert load(folder).specimen == tuple(rows[place] for place in shown)


def test_the_specimen_asks_two_questions_and_shows_the_class_that_counts(folder: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in (("a", 0), ("a", 1), ("b", 2), ("c", 1))]
    (folder / "train.jsonl").write_text(lines(rows))
    assert load(folder, labels=["0", "1", "2"]).specimen == (rows[0], rows[2])
    asked = {"use": "f1", "positive": "1"}
    assert load(folder, labels=["0", "1", "2"], metrics=asked).specimen == (rows[1], rows[2])
    (folder / "train.jsonl").write_text(lines(rows[:2]))
    assert load(folder, labels=["0", "1", "2"]).specimen == (rows[0], rows[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": ["accuracy", "macro_f1", {"use": "f1", "positive": "good"}, "matthews_correlation"]},
        {"labels": None, "answer": "line", "target": "{text}"},
        {
            "labels": None,
            "answer": "number",
            "target": "{id}",
            "metrics": [{"use": "pearson", "unreadable": 2}, "accuracy"],
        },
        {"labels": None, "answer": "code", "target": "x_{id} = {id} + 1", "max_new_tokens": 20},
        {"test": 0.5, "id": "id"},
    ],
    ids=["labels", "line", "number", "code", "share"],
)
def test_a_task_without_code_keeps_the_promises_of_a_task(changes: dict[str, Any], folder: Path) -> None:
    for name in ("train", "test"):
        rows = [{"id": place, "text": f"{name} {place}", "label": place % 2} for place in range(40)]
        (folder / f"{name}.jsonl").write_text(lines(rows))
    none = "labels" if changes.get("labels", "") is None else ""
    load(folder, none, **changes)
    assert not [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]


def alpaca(place: int) -> dict[str, Any]:
    return {"instruction": f"Name number {place}.", "input": "", "output": f"number {place}"}


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (alpaca, {"instruction": "{instruction}", "body": "{input}", "target": "{output}"}),
        (alpaca, {"instruction": "", "body": "{instruction}", "target": "{output}"}),
        (alpaca, {"instruction": "", "body": "", "question": "{instruction}", "target": "{output}"}),
        (alpaca, {"instruction": "Name {output}.", "body": "", "target": "{output}"}),
    ],
    ids=["empty input", "body alone", "question alone", "instruction alone"],
)
def test_a_check_passes_what_can_be_asked(row: Any, changes: dict[str, Any], folder: Path) -> None:
    (folder / "all.jsonl").write_text(lines([row(place) for place in range(40)]))
    load(folder, "labels", train="all.jsonl", test=0.3, **changes)
    assert not [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]


def test_a_check_passes_rows_that_json_could_not_hold(folder: Path) -> None:
    rows = [{"text": f"word {place}", "label": place % 2, "picture": b"\xff\x00"} for place in range(40)]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "all.parquet")
    load(folder, train="all.parquet", test=0.3)
    assert not [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]


@pytest.mark.parametrize(
    ("rows", "changes", "name", "key"),
    [
        ([{"text": "x", "label": ""}, {"text": "y", "label": " "}], {"answer": "text"}, "asks", "`answer`"),
        ([{"text": "x", "label": "x"}], {}, "specimen", "`specimen`"),
        ([{"text": "x", "label": "a"}, {"text": "x", "label": "b"}], {"answer": "text"}, "distinguishes", "`specimen`"),
        ([{"text": f"{n}", "label": "a b c"} for n in range(3)], {"max_new_tokens": 2}, "room", "max_new_tokens"),
    ],
)
def test_a_remedy_speaks_of_the_keys(
    rows: list[dict[str, Any]], changes: dict[str, Any], name: str, key: str, folder: Path
) -> None:
    for file in ("train.jsonl", "test.jsonl"):
        (folder / file).write_text(lines(rows))
    load(folder, "labels", **changes)
    failed = [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]
    assert failed[0].name == name
    assert key in failed[0].fix
    assert "`ask`" not in failed[0].fix


@pytest.mark.parametrize("test", ["test.jsonl", 0.5])
def test_a_check_asks_every_row(test: str | float, folder: Path) -> None:
    rows = [{"text": f"word {place}", "label": place % 2} for place in range(2000)]
    (folder / "train.jsonl").write_text(lines([*rows, {"text": "odd", "label": 7}]))
    load(folder, test=test)
    (failed,) = [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]
    assert failed.name == "rows"
    assert "train.jsonl, row 2001: the label '7' is not declared" in failed.detail


def test_a_constant_answer_above_the_chance_level_is_found(folder: Path) -> None:
    rows = [{"id": place, "text": f"word {place}", "label": int(place < 5)} for place in range(100)]
    (folder / "test.jsonl").write_text(lines(rows))
    load(folder)
    (failed,) = [check for check in check_member(str(folder / "mine.yaml")) if not check.passed]
    assert failed.name == "constant"
    assert "Always answering 'bad' scores 0.95 in accuracy; the chance level is 0.5." in failed.detail
    load(folder, chance=0.95)
    assert all(check.passed for check in check_member(str(folder / "mine.yaml")))


# ---- what is said wrong --------------------------------------------------------------------------------------------

NUMBERS = {"answer": "number", "target": "{more.n}"}
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "suite": ("", {"methods": ["lora"]}, "mine.yaml is a suite, not a task. See what it would do: peftbench plan"),
    "unknown key": ("", {"boddy": "x"}, "Unknown key 'boddy' in mine.yaml. Did you mean 'body'?"),
    "no target": ("target", {}, "mine.yaml: target is missing."),
    "no train": ("train", {}, "mine.yaml: train is missing. Name a file of rows"),
    "no test": ("test", {}, "mine.yaml: test is missing. Name a file of rows, or the share"),
    "no files": ("train test", {}, "mine.yaml: train is missing."),
    "file that is not there": (
        "",
        {"test": "gone.csv"},
        "There is no file gone.csv, which mine.yaml names as its test.",
    ),
    "folder": ("", {"train": ".."}, " is a folder, which mine.yaml names as its train. Name a file of rows"),
    "long name": ("", {"test": "x" * 300}, "x cannot be read (File name too long), which mine.yaml names as its test."),
    "unknown id": ("", {"id": "text_id"}, "mine.yaml, id: text_id is no column of train.jsonl, which has: id, label"),
    "id close by": ("", {"id": "idd"}, "which has: id, label, more, text. Did you mean id?"),
    "kind of file": ("", {"train": "mine.yaml"}, "mine.yaml is of no kind that can be read."),
    "the same file": ("", {"test": "train.jsonl"}, "train and test are one file. Hold out a share of it: test: 0.2"),
    "share of all": ("", {"test": 1.0}, "mine.yaml: test: a share lies between 0 and 1, not at 1."),
    "share of none": ("", {"test": 0.0}, "mine.yaml: test: a share lies between 0 and 1, not at 0."),
    "share below": ("", {"test": -0.2}, "mine.yaml: test: a share lies between 0 and 1, not at -0.2."),
    "share as truth": ("", {"test": True}, "mine.yaml: test"),
    "hub and files": ("", {"hub": {"id": "a/b"}}, "mine.yaml has both hub and files."),
    "hub and test": ("train", {"hub": {"id": "a/b"}}, "mine.yaml has both hub and files."),
    "hub and id": ("train test", {"hub": {"id": "a/b"}, "id": "id"}, "mine.yaml has both hub and files."),
    "hub without id": ("train test", {"hub": {"subset": "x"}}, "mine.yaml: hub.id is missing."),
    "unknown key of hub": ("train test", {"hub": {"id": "a/b", "splt": "x"}}, "Unknown key 'splt' in mine.yaml"),
    "mapping for a pattern": ("", {"target": {"label": None}}, 'a pattern stands in quotes, as in "{column}"'),
    "number for a pattern": ("", {"body": 3}, "mine.yaml: body: Input should be a valid string (got 3)"),
    "open brace": ("", {"body": "{text"}, "mine.yaml: body: a single '{'; write '{{' for the brace itself"),
    "closed brace": ("", {"question": "text}"}, "mine.yaml: question: a single '}'"),
    "empty braces": ("", {"group": "{}"}, "mine.yaml: group: {} names no column"),
    "no column asked": ("", {"body": "text"}, "mine.yaml asks the same of every row: instruction, body, question"),
    "no column as target": ("", {"target": "1"}, "mine.yaml: the target names no column."),
    "unknown column": (
        "",
        {"body": "{tekst}"},
        "mine.yaml, body: {tekst} is no column of train.jsonl, which has: id, label, more, text. Did you mean {text}?",
    ),
    "unknown part": ("", {"group": "{more.m}"}, "mine.yaml, group: {more.m} is no column of train.jsonl"),
    "number of a list": ("", {"question": "{more.by.2}"}, "{more.by.2} is no column of train.jsonl"),
    "attribute": ("", {"body": "{text.upper}"}, "{text.upper} is no column of train.jsonl"),
    "call": ("", {"body": "{text.upper()}"}, "{text.upper()} is no column of train.jsonl"),
    "format": ("", {"body": "{text!r:>9}"}, "{text!r:>9} is no column of train.jsonl"),
    "item": ("", {"body": "{more[n]}"}, "{more[n]} is no column of train.jsonl"),
    "empty labels": ("", {"labels": {}}, "mine.yaml declares no labels and reads answers as label."),
    "one label": ("", {"labels": {0: "no", 1: "no"}}, "mine.yaml, labels: 'no' is the only answer there is."),
    "label twice": ("", {"labels": {0: "no", "0": "yes"}}, "mine.yaml: a label stands twice."),
    "label twice in a list": ("", {"labels": ["no", "yes", "no"]}, "mine.yaml: a label stands twice."),
    "labels in case alone": ("", {"labels": ["no", "No"]}, "'no' and 'No' differ in case alone."),
    "label of two lines": ("", {"labels": ["no", "y\nes"]}, "the word 'y\\nes' cannot be read back."),
    "label with space": ("", {"labels": ["no", "yes "]}, "the word 'yes ' cannot be read back."),
    "empty label": ("", {"labels": ["no", ""]}, "the word '' cannot be read back."),
    "labels as text": ("", {"labels": "no, yes"}, "mine.yaml: labels: Input should be an object"),
    "list as a word": ("", {"labels": {0: ["no"], 1: ["yes"]}}, "mine.yaml: a label is a value and a word."),
    "unknown answer": ("", {"answer": "lable"}, "Unknown answer 'lable' in mine.yaml. Did you mean 'label'?"),
    "labels, not read": ("", {"answer": "text"}, "mine.yaml declares labels and reads answers as text."),
    "no labels, read": ("labels", {"answer": "label"}, "mine.yaml declares no labels and reads answers as label."),
    "unknown option": ("labels", {**NUMBERS, "answer": {"use": "number", "befor": "x"}}, "Unknown key 'befor'"),
    "option of text": ("labels", {"answer": {"use": "text", "low": 1}}, "Unknown key 'low' in mine.yaml, answer text"),
    "option of no number": ("labels", {**NUMBERS, "answer": {"use": "number", "low": "x"}}, "answer number: low: "),
    "unknown metric": ("", {"metrics": ["acuracy"]}, "Unknown metric 'acuracy' in mine.yaml. Did you mean 'accuracy'?"),
    "metric of others": (
        "",
        {"metrics": ["pearson"]},
        "pearson does not count answers of the kind label. Choose from: acc",
    ),
    "metric twice": ("", {"metrics": ["accuracy", "accuracy"]}, "mine.yaml asks for the metric 'accuracy' twice."),
    "no positive": ("", {"metrics": ["f1"]}, "mine.yaml, metric f1: positive is missing."),
    "unknown positive": (
        "",
        {"metrics": {"use": "f1", "positive": "god"}},
        "Unknown label 'god' in mine.yaml, metric f1",
    ),
    "nothing unreadable": (
        "labels",
        {**NUMBERS, "metrics": "pearson"},
        "mine.yaml, metric pearson: unreadable is missing.",
    ),
    "option of accuracy": (
        "",
        {"metrics": {"use": "accuracy", "x": 1}},
        "Unknown key 'x' in mine.yaml, metric accuracy",
    ),
    "chance of one": ("", {"chance": 1}, "mine.yaml: chance: Input should be less than 1"),
    "no tokens": ("", {"max_new_tokens": 0}, "mine.yaml: max_new_tokens: "),
    "two licences": ("", {"licence": "a", "license": "b"}, "mine.yaml sets 'licence' twice, once as 'license'."),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_said_wrong_is_told(case: str, folder: Path) -> None:
    without, changes, words = WRONG[case]
    assert words in refused(folder, without, **changes)


def test_an_unknown_column_of_the_test_file(folder: Path) -> None:
    (folder / "test.jsonl").write_text(lines([{"tekst": "x", "label": 1}]))
    assert "mine.yaml, body: {text} is no column of test.jsonl, which has: label, tekst." in refused(folder)


def test_an_empty_file_is_refused_when_the_task_is_read(folder: Path) -> None:
    (folder / "test.jsonl").write_text("\n")
    assert "test.jsonl has no rows." in refused(folder)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("target: {label}\ntarget: x\n", InvalidSpec),
        ("a: [", InvalidSpec),
        ("- a\n", InvalidSpec),
        ("x: 1\n", UnknownName),
    ],
)
def test_the_yaml_is_read_strictly(text: str, kind: type[UsageError], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(kind, match=r"mine\.yaml"):
        registry.load("tasks", str(tmp_path / "mine.yaml"))
    (check,) = check_member(str(tmp_path / "mine.yaml"))
    assert (check.name, check.passed) == ("loads", False)


def test_yaml_1_2_means_what_it_says(folder: Path) -> None:
    files = "train: train.jsonl\ntest: test.jsonl\n"
    text = files + "body: |\n  {text}\n  {{so}}\ntarget: '{label}'\nlabels: {0: no, 1: yes}\n"
    (folder / "mine.yaml").write_text("\ufeff" + text, encoding="utf-8")
    task: Task = registry.load("tasks", str(folder / "mine.yaml")).value
    assert task.ask(ROWS[0]) == Example("", "yes", "so good\n{so}")
