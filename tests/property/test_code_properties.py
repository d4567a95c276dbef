"""CodeBLEU: laws that hold for any code, and for any text."""

from __future__ import annotations

import io
import math
import re
import sys
import tokenize
from dataclasses import astuple
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peftbench.metrics._comments import without_comments
from peftbench.metrics.code import CodeBleu, scores, statistics
from property.strategies import texts as words

NAMES = ["a", "b", "c", "d"]
VALUES = ["1", "'s'", "None", "-2.5", "f'{a}'", "_ + _", "f(_, e=_)", "[_ for a in _]", "b[_]", "(lambda c=_: _)"]
LINES = [
    "a = _",
    "b += _",
    "a, b = _, _",
    "return _",
    "print(_)  # _",
    "c[_] = _",
    "d.e = _",
    "d = _ is not _",
    "'Docs.'",
]
BLOCKS = ["for a in _:", "while _:", "if _:", "if _:|else:", "if _:|elif _:|else:", "def f(a, b=_):"]


def _filled(form: str, random: Random, depth: int = 2) -> str:
    """A form with names and values in place of its blanks."""
    choice = [*NAMES, *VALUES] if depth else NAMES
    return re.sub("_", lambda _: _filled(random.choice(choice), random, depth - 1), form)


def _program(random: Random, depth: int = 3) -> list[str]:
    """The lines of some Python code, of loops, branches and functions in one another."""
    written = []
    for _ in range(random.randint(1, 3)):
        form = random.choice([*LINES, *BLOCKS] if depth else LINES)
        for head in form.split("|"):
            written.append(_filled(head, random))
            if head.endswith(":"):
                written += [f"    {line}" for line in _program(random, depth - 1)]
    return written


# Drawn by a seed: built of strategies, they take a hundred times as long as what is tested.
programs = st.integers(0, 2**32).map(lambda seed: "\n".join(_program(Random(seed))))
# Pieces of which strings, comments, lines and brackets are made, in any order.
scraps = st.lists(
    st.sampled_from(
        [*"'\"#()[]{}:=\\ \n\n\t\f\ra0é$?", '"""', "'''", "rb", "f'", "\\\n", "\r\n", "  \n    ", "if a:", "in"]
    ),
    max_size=30,
).map("".join)
characters = st.characters() | st.sampled_from("\ud800\udfff\0")
texts = st.one_of(programs, scraps, words, st.text(characters, max_size=60))
examples = st.tuples(texts, st.lists(texts, min_size=1, max_size=3))


def total(rows: list[tuple[float, ...]]) -> list[float]:
    return [math.fsum(column) for column in zip(*rows, strict=True)]


def alone(candidate: str, *references: str) -> CodeBleu:
    return scores(statistics(candidate, references))


@given(examples)
def test_any_text_has_scores_from_0_to_1(example: tuple[str, list[str]]) -> None:
    counted = statistics(*example)
    assert len(counted) == 24
    assert all(math.isfinite(number) and number >= 0 for number in counted)
    assert all(0 <= score <= 1 for score in astuple(scores(counted)))


@given(st.lists(examples, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_corpus_is_the_sum_of_its_examples(rows: list[tuple[str, list[str]]], random: object) -> None:
    counted = [statistics(*row) for row in rows]
    whole = astuple(scores(total(counted)))
    shuffled = list(counted)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis leaves its generator unannotated
    assert astuple(scores(total(shuffled))) == pytest.approx(whole, abs=1e-12)
    parts = [total(counted[:2]), *([total(counted[2:])] if counted[2:] else [])]
    assert astuple(scores(total([tuple(part) for part in parts]))) == pytest.approx(whole, abs=1e-12)


@given(programs)
def test_the_same_code_has_all_of_itself(code: str) -> None:
    found = alone(code, code)
    words = code.split()
    assert found.syntax_match == 1
    assert found.dataflow_match in {0, 1}
    # Shorter ones have no four words in a row, or too few that weigh.
    assert found.ngram_match == pytest.approx(1) or len(words) < 4
    assert found.weighted_ngram_match == pytest.approx(1) or len(words) < 5
    assert found.codebleu == pytest.approx(1) or len(words) < 5


@given(programs)
def test_other_names_change_neither_syntax_nor_data_flow(code: str) -> None:
    renamed = re.sub(r"\b[abcd]\b", lambda found: {"a": "d", "b": "long", "c": "a", "d": "x1"}[found[0]], code)
    found = alone(renamed, code)
    assert found.syntax_match == 1
    assert found.dataflow_match == alone(code, code).dataflow_match


@given(texts, st.lists(texts, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_references_does_not_matter(candidate: str, references: list[str], random: object) -> None:
    bare = without_comments(candidate.strip())
    # Otherwise every further reference takes more away from the candidate, in the package too.
    assume(without_comments(bare) == bare)
    shuffled = list(references)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis leaves its generator unannotated
    assert statistics(candidate, shuffled) == pytest.approx(statistics(candidate, references), abs=1e-12)


@given(programs, programs)
def test_comments_change_neither_syntax_nor_data_flow(candidate: str, reference: str) -> None:
    commented = "# first\n" + candidate.replace("\n", "  # of a line\n")
    plain, other = alone(candidate, reference), alone(commented, reference)
    assert (plain.syntax_match, plain.dataflow_match) == (other.syntax_match, other.dataflow_match)


def _by_tokenize(code: str) -> str:
    """The same by the tokenizer of the standard library."""
    out, before, row, column = "", tokenize.INDENT, 0, 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            out += " " * (token.start[1] - (column if token.start[0] == row else 0))
            docs = token.type == tokenize.STRING and (
                before in {tokenize.INDENT, tokenize.NEWLINE} or not token.start[1]
            )
            out += "" if docs or token.type == tokenize.COMMENT else token.string
            before, (row, column) = token.type, token.end
    except (tokenize.TokenError, IndentationError):
        return code
    return "\n".join(line for line in out.split("\n") if line.strip())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="another tokenizer since Python 3.12")
@given(texts)
def test_comments_end_where_those_of_the_standard_library_did(code: str) -> None:
    # Between tokens one kind of space is as good as another.
    space = {ord("\t"): " ", ord("\f"): " "}
    assert without_comments(code).translate(space) == _by_tokenize(code).translate(space)
