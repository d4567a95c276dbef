"""CodeBLEU: the numbers of the package `codebleu` on invented code, and what has no number there."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from peftbench.errors import MissingExtra
from peftbench.metrics._comments import without_comments
from peftbench.metrics.code import CODE_BLEU, CodeBleu, scores, statistics

# Written by scripts/make_code_oracle.py.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "code_bleu.json").read_text("utf-8"))
PAIRS = GOLDEN["pairs"]
ALIKE = [row for row in GOLDEN["corpora"] if not any(PAIRS[i]["about"].startswith("guessed") for i in row["members"])]
GUESSED = [row for row in GOLDEN["corpora"] if row not in ALIKE]


def about(row: dict[str, Any]) -> str:
    members = row["members"]
    return PAIRS[members[0]]["about"] if len(members) == 1 else f"{len(members)} pairs from {members[0]}"


def measured(row: dict[str, Any]) -> CodeBleu:
    pairs = [PAIRS[index] for index in row["members"]]
    counted = [statistics(pair["candidate"], pair["references"]) for pair in pairs]
    return scores([math.fsum(column) for column in zip(*counted, strict=True)])


def alone(candidate: str, *references: str) -> CodeBleu:
    return scores(statistics(candidate, references))


@pytest.mark.parametrize("row", ALIKE, ids=about)
def test_the_numbers_are_those_of_the_package(row: dict[str, Any]) -> None:
    assert astuple(measured(row)) == pytest.approx(row["scores"], abs=1e-9, rel=0)


@pytest.mark.parametrize("row", GUESSED, ids=about)
def test_grammars_guess_differently_what_wrong_code_was_meant_to_be(row: dict[str, Any]) -> None:
    ours, theirs = measured(row), row["scores"]
    assert [ours.ngram_match, ours.weighted_ngram_match] == pytest.approx(theirs[1:3], abs=1e-9, rel=0)
    # A pair that agrees belongs to those above.
    assert [ours.syntax_match, ours.dataflow_match] != pytest.approx(theirs[3:], abs=1e-9, rel=0)


def test_the_oracle_is_large_enough_to_tell() -> None:
    assert len(PAIRS) - len(GUESSED) >= 100
    assert sum(len(row["members"]) > 1 for row in ALIKE) == 21
    assert len({tuple(row["scores"]) for row in ALIKE}) > 80
    for score in range(5):
        assert len({row["scores"][score] for row in ALIKE}) > 40
    assert any(not row["settled"] for row in ALIKE)
    assert sum(row["settled"] for row in ALIKE) > 100


@pytest.mark.parametrize(
    ("once", "now"),
    [
        ("a = b is not c", "a = b not in c"),
        ("try:\n  a\nexcept* B:\n  c", "try:\n  a\nexcept* D:\n  c"),
        ("type A = b", "type C = d"),
        (r"a = 'x\0\d'", "a = 'x'"),
    ],
)
def test_later_grammars_are_put_back_into_the_words_of_the_one_that_was_published(once: str, now: str) -> None:
    assert alone(once, now).syntax_match == 1


def test_exception_groups_are_not_exceptions() -> None:
    assert alone("try:\n  a\nexcept* B:\n  c", "try:\n  a\nexcept B:\n  c").syntax_match < 1


def test_a_candidate_without_any_of_the_data_flow_gains_as_much_as_one_with_all_of_it() -> None:
    reference = "def f(a):\n    b = a\n    return b"
    nothing, everything = alone("def f(a):\n    pass", reference), alone(reference, reference)
    assert (nothing.dataflow_match, everything.dataflow_match) == (0, 1)
    four = (nothing.ngram_match, nothing.weighted_ngram_match, nothing.syntax_match, 1)
    assert nothing.codebleu == pytest.approx(sum(four) / 4, abs=1e-12)


def test_every_example_has_the_same_numbers_in_number() -> None:
    assert {len(statistics(pair["candidate"], pair["references"])) for pair in PAIRS} == {24}


def test_without_a_reference_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        statistics("a = b", [])


def test_without_the_parser_the_fix_is_a_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tree_sitter", "tree_sitter_python"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[train\]'"):
                statistics("a", ["a"])


# ---- texts that nobody would write ---------------------------------------------------------------------------------

MANY = 100_000
HOSTILE = {
    "nothing": "",
    "surrogates": "a = '\ud800' + \udfff\nb = a",
    "only surrogates": "\udc00" * 1000,
    "nulls": "\0" * 1000,
    "a null inside": "a\0 = b",
    "deep brackets": "(" * (MANY // 2) + "1" + ")" * (MANY // 2),
    "open brackets": "[" * MANY,
    "deep operators": "not " * (MANY // 4) + "a",
    "a long chain": "a=" * (MANY // 2) + "b",
    "all to all": ",".join("a" * (MANY // 4)) + "=" + ",".join("b" * (MANY // 5)),
    "deep blocks": "\n".join(f"{' ' * depth}while a{depth}:" for depth in range(400)),
    "many branches": "\n".join(f"if a{i}: b{i} = a\nelse: c{i} = b{i}" for i in range(3000)),
    "quotes": "'\"" * (MANY // 2),
    "backslashes": "\\\n" * (MANY // 2),
    "words": " ".join(f"w{i}" for i in range(MANY // 6)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_text_has_numbers(text: str) -> None:
    counted = statistics(text, ["a = b\nc = a"])
    assert all(math.isfinite(number) for number in counted)
    assert all(0 <= score <= 1 for score in astuple(scores(counted)))


def test_a_reference_may_be_any_text_too() -> None:
    assert alone("a = b", "\ud800(((\0'").syntax_match == 0


def test_loops_in_loops_take_no_longer_than_they_are() -> None:
    # Followed as the package does, each level twice, this takes 2 ** 60 steps.
    lines = [f"{' ' * depth}for a{depth} in a{depth - 1}:" for depth in range(1, 61)]
    code = "\n".join([*lines, f"{' ' * 61}a0 = a60"])
    assert alone(code, code).dataflow_match == 1


# ---- comments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "bare"),
    [
        ("a = 1  # one\n\n# two\nb = '# three'", "a = 1  \nb = '# three'"),
        ('def f():\n    """Docs."""\n    return "a"', 'def f():\n    return "a"'),
        ("'module'\na", "a"),
        ("f(\n'a', 'b')", "f(\n, 'b')"),
        ("a = '''b\n# c\n'''  # d", "a = '''b\n# c\n'''  "),
        ("a = 'b\\\n# c'", "a = 'b\\\n# c'"),
        ("a = b \\\n  + c", "a = b  + c"),
        # What ends too early or goes back to nowhere is left as it is.
        ("(a # b", "(a # b"),
        ("'''a # b", "'''a # b"),
        ("if a:\n    b # c\n  d", "if a:\n    b # c\n  d"),
        ("a) # b", "a) # b"),
        # A quote without its other is a character like any other.
        ("it's # a comment", "it's "),
    ],
)
def test_comments_and_docstrings_go(code: str, bare: str) -> None:
    assert without_comments(code) == bare


# ---- the tasks' own metric -----------------------------------------------------------------------------------------

FLOWING = "def area(width, height):\n    size = width * height\n    return size"
STILL = "print('every single one of them', end='')"
LONGER = "def area(a):\n    total = a\n    for b in c:\n        total += b\n    return total"


def own(candidate: str | None, *references: str) -> float:
    return CODE_BLEU.over([CODE_BLEU.statistics(candidate, references)])


def test_there_is_data_flow_in_one_of_the_two_only() -> None:
    assert statistics(FLOWING, (FLOWING,))[23] > 0
    assert statistics(STILL, (STILL,))[23] == 0


@pytest.mark.parametrize("reference", [FLOWING, STILL])
@pytest.mark.parametrize("nothing", [None, "", "# nothing"])
def test_an_answer_that_has_nothing_is_worth_nothing(nothing: str | None, reference: str) -> None:
    # Words of a comment are words to BLEU, of another length than none.
    assert own(nothing, reference) == pytest.approx(0, abs=1e-3)


def test_without_data_flow_in_a_reference_the_three_other_scores_count() -> None:
    candidate = "print('every single one', end='')"
    found = alone(candidate, STILL)
    three = (found.ngram_match, found.weighted_ngram_match, found.syntax_match)
    assert 0 < own(candidate, STILL) == pytest.approx(sum(three) / 3, abs=1e-12)
    assert found.codebleu == pytest.approx((sum(three) + 1) / 4, abs=1e-12)


def test_data_flow_that_is_missed_is_worth_nothing() -> None:
    found = alone("def area(width, height):\n    pass", FLOWING)
    assert found.dataflow_match == 0
    assert own("def area(width, height):\n    pass", FLOWING) == pytest.approx(found.codebleu - 0.25, abs=1e-12)


def test_of_several_solutions_the_nearest_counts_wherever_it_stands() -> None:
    candidate = FLOWING.replace("size", "surface")
    near, far = own(candidate, FLOWING), own(candidate, LONGER)
    assert near > far + 0.2
    assert own(candidate, FLOWING, LONGER) == own(candidate, LONGER, FLOWING) == near
    assert own(LONGER, LONGER, FLOWING) == own(LONGER, FLOWING, LONGER) == own(LONGER, LONGER)
    # Neither does it gain by words of another solution, as BLEU of all at once would.
    both = "\n".join([FLOWING, LONGER])
    assert own(both, FLOWING, LONGER) == max(own(both, FLOWING), own(both, LONGER))
