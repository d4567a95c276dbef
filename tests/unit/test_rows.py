"""Rows, examples and where they come from."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftbench import hub, registry
from peftbench.errors import DataProblem, MissingExtra
from peftbench.metrics.classification import ACCURACY
from peftbench.models._facts import find
from peftbench.tasks._answer import Labels, NoAnswer, given
from peftbench.tasks._source import Files, Generated, HubDataset, Origin
from peftbench.tasks._task import Example, Item, Row, Split, Task, items

LABELS = Labels(("bad", "good"), ("no", "yes"))
HUB = HubDataset("owner/name", None, mirror="mine")


def ask(row: Row) -> Example:
    return Example(
        instruction="?", body=row["text"].strip(), target=LABELS.word(row["label"]), group=row.get("passage", "")
    )


TASK = Task(
    source=HUB,
    ask=ask,
    read=LABELS.read,
    metrics=(ACCURACY,),
    chance=0.5,
    category="c",
    licence="l",
    citation="c",
    specimen=({"text": "a", "label": 0}, {"text": "b", "label": "good"}),
    version=1,
)


def test_every_row_becomes_an_item_with_its_place() -> None:
    found = items(TASK, [(3, TASK.specimen[0]), (7, TASK.specimen[1])], "train")
    assert [(item.id, item.references) for item in found] == [("train/3", ("no",)), ("train/7", ("yes",))]
    assert TASK.headline == "accuracy"


def test_rows_of_one_passage_share_a_group_and_others_stand_alone() -> None:
    rows = [{"text": str(number), "label": 0, "passage": passage} for number, passage in enumerate(["p", "p", "q", ""])]
    groups = [item.group for item in items(TASK, list(enumerate(rows)), "test")]
    assert groups[0] == groups[1] != groups[2]
    assert len(groups[0]) == 12
    assert groups[3] == "test/3"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": 0}, "Row test/0 has no column 'text'; it has: label"),
        ({"text": "a", "label": 5}, "the label 5 is not declared"),
        ({"text": None, "label": 0, "note": ""}, r"Row test/0: nothing stands in text\."),
        ({"text": 7, "label": 0, "note": None}, "Row test/0: 'int' object has no attribute 'strip'"),
        ({"text": "a", "label": -2}, "the label -2 is not declared"),
    ],
)
def test_a_row_that_cannot_be_asked_is_a_sentence(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataProblem, match=words) as caught:
        items(TASK, [(0, row)], "test")
    assert caught.value.fix


@pytest.mark.parametrize("hidden", [-1, "-1", "", None])
def test_a_row_whose_answer_is_hidden_is_left_out(hidden: object) -> None:
    rows = [TASK.specimen[0], {"text": "a", "label": hidden}, TASK.specimen[1]]
    assert [item.id for item in items(TASK, enumerate(rows), "test")] == ["test/0", "test/2"]


@pytest.mark.parametrize("hidden", [None, "", " \n\t"])
def test_an_answer_in_words_is_hidden_where_there_is_none(hidden: str | None) -> None:
    assert given(" yes\n") == "yes"
    with pytest.raises(NoAnswer):
        given(hidden)


def test_classes_named_by_numerals_are_known_by_these_numbers() -> None:
    labels = Labels(("1", "2", "3"), ("a", "b", "c"))
    assert [labels.word(value) for value in ("1", 1, "3", 3)] == ["a", "a", "c", "c"]
    with pytest.raises(ValueError, match=r"0 is not declared \(1 or '1', 2 or '2', 3 or '3'\)"):
        labels.word(0)
    assert [LABELS.word(value) for value in (0, "bad", 1)] == ["no", "no", "yes"]
    assert Labels(("False", "True"), ("no", "yes")).word(value=True) == "yes"


def test_options_stand_behind_the_words_of_their_classes() -> None:
    assert LABELS.options([" one ", "two\n"]) == "no: one\nyes: two"
    for texts in (["one"], ["one", "two", "three"]):
        with pytest.raises(ValueError, match=f"there are {len(texts)} options, not 2"):
            LABELS.options(texts)


def test_several_answers_are_right() -> None:
    def ask(row: Row) -> Example:
        return Example(instruction="i", body=row["text"], target="yes", accepted=("yes", "no", " Yes."))

    (item,) = items(dataclasses.replace(TASK, ask=ask), [(0, TASK.specimen[0])], "test")
    assert item.references == ("yes", "no")
    odd = dataclasses.replace(TASK, ask=lambda row: dataclasses.replace(ask(row), accepted=("perhaps",)))
    with pytest.raises(DataProblem, match="cannot read its own target 'perhaps'"):
        items(odd, [(0, TASK.specimen[0])], "test")


def test_a_target_the_task_cannot_read_is_a_mistake_of_the_task() -> None:
    odd = dataclasses.replace(TASK, read=lambda text: None)
    with pytest.raises(DataProblem, match="cannot read its own target 'no'"):
        items(odd, [(0, TASK.specimen[0])], "test")


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_specimens_are_asked_and_their_targets_are_right(name: str) -> None:
    task: Task = registry.load("tasks", name).value
    found = items(task, list(enumerate(task.specimen)), "test")
    assert all(isinstance(item, Item) for item in found)
    for item in found:
        assert task.read(item.example.target) == item.references[0]
    assert 0 <= task.chance < 1
    for metric in task.metrics:
        perfect = metric.over(metric.statistics(item.references[0], item.references) for item in found)
        # Two rows do not show every one of three classes, and BLEU finds no four words in a row in short code.
        assert perfect == pytest.approx(1) or metric.name in {"macro_f1", "codebleu"}
        assert perfect > 0.3
        assert metric.over(metric.statistics(None, item.references) for item in found) == 0


# ---- sources -------------------------------------------------------------------------------------------------------


def test_a_data_set_that_others_stand_in_for_has_one_test_split() -> None:
    origin = Origin("owner/copy")
    with pytest.raises(ValueError, match="cannot have `others`"):
        HubDataset("owner/set", None, mirror="set", others=("more",), instead=(origin,))
    assert HubDataset("owner/set", None, mirror="set", instead=(origin,)).origins[1] == origin


@pytest.mark.parametrize("name", ["validation", "train"])
def test_a_file_of_a_mirror_holds_one_split(name: str) -> None:
    with pytest.raises(ValueError, match=f"another split has the file {name}"):
        HubDataset("owner/set", None, mirror="set", test="test", others=("more", name))
    more = HubDataset("owner/set", None, mirror="set", test="test", others=("more", "hard")).with_test("more")
    assert (more.test, more.mirror_test, more.with_test("more")) == ("more", "more", more)


def mirror(
    root: Path, train: bytes = b'{"a": 1}\n{"a": 2}\n', test: bytes = b'{"a": 3}\n', suffix: str = ".jsonl"
) -> str:
    folder = root / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"train{suffix}").write_bytes(train)
    (folder / f"validation{suffix}").write_bytes(test)
    return str(root)


@pytest.mark.parametrize("packed", [False, True])
def test_a_mirror_is_read_in_order(tmp_path: Path, *, packed: bool) -> None:
    train, test = b'{"a": 1}\n{"a": "\\u2028"}\n', b'{"a": 3}'
    if packed:
        root = mirror(tmp_path, gzip.compress(train), gzip.compress(test), suffix=".jsonl.gz")
    else:
        root = mirror(tmp_path, train, test)
    identity = HUB.identity(root)
    assert identity.startswith("files:")
    assert HUB.rows("train", root, identity) == [{"a": 1}, {"a": "\u2028"}]
    assert HUB.rows("test", root, identity) == [{"a": 3}]


def test_the_identity_is_the_content_of_both_files(tmp_path: Path) -> None:
    one = HUB.identity(mirror(tmp_path / "one"))
    assert HUB.identity(mirror(tmp_path / "two")) == one
    assert HUB.identity(mirror(tmp_path / "two", test=b'{"a": 4}\n')) != one
    assert HUB.identity(mirror(tmp_path / "two", train=b'{"a": 4}\n')) != one
    own = Files(tmp_path / "one/mine/train.jsonl", tmp_path / "one/mine/validation.jsonl")
    assert own.identity(None) == one


def test_files_that_changed_since_the_plan_are_refused(tmp_path: Path) -> None:
    root = mirror(tmp_path)
    identity = HUB.identity(root)
    mirror(tmp_path, test=b'{"a": 5}\n')
    own = Files(tmp_path / "mine/train.jsonl", tmp_path / "mine/validation.jsonl")
    for source in (HUB, own):
        with pytest.raises(DataProblem, match="not those the run was planned with"):
            source.rows("train", root, identity)


def test_files_of_ones_own(tmp_path: Path) -> None:
    mirror(tmp_path)
    own = Files(tmp_path / "mine/train.jsonl", tmp_path / "mine/validation.jsonl")
    assert own.rows("train", None, own.identity(None)) == [{"a": 1}, {"a": 2}]
    assert own.rows("test", "anywhere", own.identity(None)) == [{"a": 3}]
    with pytest.raises(DataProblem, match="There is no file"):
        Files(tmp_path / "none", tmp_path / "none").identity(None)


@pytest.mark.parametrize("call", ["read_bytes", "is_file"])
def test_a_file_that_may_not_be_read_is_a_sentence(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be allowed to read everything, so the refusal is made here."""
    file = tmp_path / "train.jsonl"
    file.write_text('{"a": 1}', encoding="utf-8")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(DataProblem, match=r"train\.jsonl cannot be read: Permission denied\. See who may read it\."):
        Files(file, file).identity(None)


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        (b"", ".jsonl", "has no rows"),
        (b'{"a": 1}\n{"a": \n', ".jsonl", "row 2 is not JSON"),
        (b'{"a": 1}\n[1]\n', ".jsonl", "row 2 is not an object"),
        (b'{"a": 1}\n{"a": ["x", "\\ud83d"]}\n', ".jsonl", "row 2 holds half of a character"),
        (b'{"\\uDE00": 1}\n', ".jsonl", "row 1 holds half of a character"),
        (b"\xff\xfe", ".jsonl", "is UTF-16, not UTF-8"),
        (b'{"a": 1}\n\xff', ".jsonl", "row 2 is not UTF-8"),
        (b"no gzip at all", ".jsonl.gz", "is not gzip"),
        (gzip.compress(b'{"a": 1}\n' * 2000)[:-20], ".jsonl.gz", "cannot be read after row"),
        (
            gzip.compress(b'{"a": 1}\n')[:10] + b"\x07" + gzip.compress(b'{"a": 1}\n')[11:],
            ".jsonl.gz",
            "cannot be read after row 0",
        ),
    ],
    ids=[
        "empty",
        "half a row",
        "a list",
        "half a character",
        "half a name",
        "utf-16",
        "not utf-8",
        "not gzip",
        "cut gzip",
        "damaged gzip",
    ],
)
def test_damaged_files(content: bytes, suffix: str, words: str, tmp_path: Path) -> None:
    root = mirror(tmp_path, train=content, suffix=suffix)
    with pytest.raises(DataProblem, match=words) as caught:
        HUB.rows("train", root, HUB.identity(root))
    assert caught.value.fix


def test_columns_of_a_mirror_keep_the_place_of_their_row(tmp_path: Path) -> None:
    own = dataclasses.replace(HUB, mirror_columns={"text": "{a}"})
    root = mirror(tmp_path, test=b'\n{"a": " x "}\n{"b": 2}\n')
    with pytest.raises(DataProblem, match=r"validation\.jsonl, row 2 \(line 3\) has no column 'a'; it has: b\."):
        own.rows("test", root, own.identity(root))
    mirror(tmp_path, test=b'\n{"a": " x "}\n')
    (row,) = own.rows("test", root, own.identity(root))
    assert row == {"text": "x"}
    with pytest.raises(DataProblem, match=r"validation\.jsonl, row 1 \(line 2\) has no column 'label'"):
        items(TASK, [(0, row)], "test")


def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=r"There is no .*train.jsonl.gz") as caught:
        HUB.identity(str(tmp_path))
    assert "--data-root" in caught.value.fix


def test_a_generator_is_known_by_its_rows() -> None:
    def make(split: Split) -> list[dict[str, Any]]:
        return [{"text": split}]

    source = Generated(make)
    assert source.rows("train", None, "") == [{"text": "train"}]
    assert source.identity(None) == Generated(lambda split: [{"text": split}]).identity("anywhere")
    assert source.identity(None) != Generated(lambda split: [{"text": split + "!"}]).identity(None)
    assert source.identity(None).startswith("generated:")


def test_without_the_libraries_the_fix_is_a_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[hub\]'"):
        HUB.rows("train", None, "hub:owner/name/default@0")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for revision in (None, "a" * 40):
        with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[hub\]'"):
            replace(HUB, revision=revision).identity(None)
        with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[hub\]'"):
            find("owner/name", revision)


def test_the_identity_on_the_hub_names_subset_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(*question: Any) -> str:
        asked.append(question)
        return "c0ffee"

    monkeypatch.setattr(hub, "resolve", resolve)
    assert HUB.identity(None) == "hub:owner/name/default@c0ffee"
    assert HubDataset("o/n", "sub", mirror="", revision="v1").identity(None) == "hub:o/n/sub@c0ffee"
    assert asked == [("dataset", "owner/name", None), ("dataset", "o/n", "v1")]


def test_json_lines_keep_every_kind_of_value(tmp_path: Path) -> None:
    row = {"text": "ü 😀\n", "number": 1.5, "none": None, "list": [1, {"x": True}]}
    root = mirror(tmp_path, test=json.dumps(row).encode())
    assert HUB.rows("test", root, HUB.identity(root)) == [row]


def test_columns_of_a_mirror_become_those_of_the_hub(tmp_path: Path) -> None:
    source = HubDataset(
        "owner/name", None, mirror="mine", mirror_columns={"prompt": "{ask}\n{more}", "answer": "{out}"}
    )
    rows = [{"ask": "Say {more}", "more": "%s", "out": " 4 "}, {"ask": "Count", "more": None, "out": None}]
    root = mirror(tmp_path, test="\n".join(map(json.dumps, rows)).encode())
    found = source.rows("test", root, source.identity(root))
    assert found == [{"prompt": "Say {more}\n%s", "answer": "4"}, {"prompt": "Count", "answer": ""}]
    with pytest.raises(DataProblem, match=r"row 1 has no column 'ask'; it has: a\."):
        source.rows("train", root, source.identity(root))
    root = mirror(tmp_path / "listed", test=b'{"ask": ["a"], "more": "", "out": ""}')
    with pytest.raises(DataProblem, match=r"row 1.*: the column 'ask' holds a list"):
        source.rows("test", root, source.identity(root))
