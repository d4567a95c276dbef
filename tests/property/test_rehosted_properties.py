"""Laws of published texts, for any row: nothing of it gets lost, and nothing can break the marking of a span."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from oracles.published_rows import explode_apps, explode_record
from peftbench.strict_yaml import parse_yaml, yaml_text
from peftbench.tasks._rehosted import PUBLISHED
from property.strategies import shares

texts = st.text(st.characters(codec="utf-8"), max_size=30)
# Columns that are texts and stand whole in what was put together.
WHOLE: dict[str, tuple[str, ...]] = {
    "multirc": ("paragraph", "question", "answer"),
    "record": ("query",),
    "wic": ("sentence1", "sentence2", "word"),
    "copa": ("premise", "choice1", "choice2"),
    "mmlu": ("question",),
    "piqa": ("goal", "sol1", "sol2"),
    "siqa": ("context", "question", "answerA", "answerB", "answerC"),
    "hellaswag": ("ctx_a",),
    "winogrande": ("sentence", "option1", "option2"),
    "openbookqa": ("question_stem",),
    "math_qa": ("Problem", "options"),
    "svamp": ("question_concat",),
    "apps": ("question",),
}
four = st.lists(texts, min_size=4, max_size=4)


@st.composite
def rows(draw: st.DrawFn, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {column: draw(texts) for column in WHOLE[name]}
    others: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "mmlu": {"choices": four},
        "openbookqa": {"choices": st.fixed_dictionaries({"text": four})},
        "hellaswag": {"ctx_b": texts, "endings": four},
        "record": {"entities": st.lists(texts, max_size=3), "passage": texts, "answers": st.lists(texts, max_size=3)},
    }
    return row | {column: draw(values) for column, values in others.get(name, {}).items()}


@pytest.mark.parametrize("name", WHOLE)
def test_no_text_is_lost(name: str) -> None:
    @given(rows(name))
    def check(row: dict[str, Any]) -> None:
        text = PUBLISHED[name].text(row, "inputs")
        lists = [*row.get("entities", ()), *row.get("endings", ())]
        choices = row.get("choices", ())
        lists += choices["text"] if isinstance(choices, dict) else choices
        for part in (*(row[column] for column in WHOLE[name]), *lists):
            assert part in text
        if name == "hellaswag":
            assert row["ctx_b"].capitalize() + ",\n\nEnding1: " in text
        if name == "record":
            assume("@highlight" not in row["passage"])
            assert text.endswith("Passage: " + row["passage"])

    check()


@given(rows("record"), st.lists(st.sampled_from(["@highlight", "\n", ".", '"', "Ida", " "]), max_size=12))
def test_record_is_as_the_second_reconstruction_has_it(row: dict[str, Any], parts: list[str]) -> None:
    row = {**row, "passage": "".join(parts), "idx": {"query": 0}}
    published = PUBLISHED["record"]
    expected = explode_record(row)
    assert published.answers(row) == tuple(one.label for one in expected)
    assert {published.text(row, "inputs")} == {one.inputs for one in expected}


@given(texts, st.lists(texts.filter(lambda text: "/" not in text), max_size=3))
def test_apps_is_as_the_second_reconstruction_has_it(question: str, programs: list[str]) -> None:
    """Which reads the list as Python does: the two halves of a character that JSON writes are lone there."""
    row = {"question": question, "solutions": json.dumps(programs), "problem_id": 0}
    expected = explode_apps(row)
    assert PUBLISHED["apps"].answers(row) == tuple(one.label for one in expected)
    assert {PUBLISHED["apps"].text(row, "inputs")} == {one.inputs for one in expected}


spans = st.text(st.sampled_from(r"ab .*+?()[]{}\|^$1") | st.characters(codec="utf-8"), max_size=8)


@given(st.text(st.sampled_from("ab .("), max_size=30), spans, spans, st.integers(-2, 9), st.integers(-2, 9))
def test_marking_adds_marks_alone(text: str, first: str, second: str, one: int, other: int) -> None:
    row = {"text": text, "span1_text": first, "span2_text": second, "span1_index": one, "span2_index": other}
    marked = PUBLISHED["wsc"].text(row, "inputs")
    bare = "".join(character for character in marked if character not in "*# ")
    assert bare == "".join(character for character in text if character not in "*# ")
    assert (marked.count("*"), marked.count("#")) in {(0, 0), (0, 2), (2, 0), (2, 2)}


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), texts | shares | st.lists(texts, max_size=3)))
@example({"a": "x\x85y", "b": ["\x85"], "c": {"d": "\u2028 \ufeff\r\n\t#: - '"}})
def test_what_is_written_as_yaml_is_read_back(data: dict[str, Any]) -> None:
    assume(data)
    assert parse_yaml(yaml_text(data), "here") == data
