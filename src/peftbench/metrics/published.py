"""What the released scoring script of PEFT-Bench computes (arXiv 2511.21285), its peculiarities included.

These metrics are given the text as it was written and the right answers as they stand in the data, not what a task
reads in them: an answer with a full stop is no answer here. They are for comparison with published tables; where they
differ from a task's own metrics, and why, is told in docs/decisions/published-metrics.md. A number that is undefined
(the correlation of a constant column) is NaN.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence

from peftbench.metrics import code
from peftbench.metrics._metric import Metric, RankMetric, References, Statistics, mean_metric
from peftbench.metrics.exact import plain, token_f1
from peftbench.metrics.regression import ranks

Metrics = tuple[Metric | RankMetric, ...]

_THINK = "</think>\n\n"
_LONGEST = 16
_NEAR = 1e-6
_FINITE, _INFINITE, _NO_NUMBER = 0.0, 1.0, 2.0


def text_of(answer: str | None) -> str:
    """Lower case, without the space around it, from behind the last thought on."""
    return (answer or "").lower().strip().rpartition(_THINK)[2]


def classes(words: Sequence[str]) -> Metrics:
    """F1 of the second of two classes, or macro F1 of more; and the share of exact matches.

    What is none of the words counts as a wrong one: the other of two; the second of more, or the first where the second
    is right. Macro F1 is the mean over classes that occur.
    """
    known = [_short(word) for word in words]

    def statistics(answer: str | None, references: References) -> Statistics:
        true = _short(references[0])
        said = _short(answer)
        if said not in known:
            said = known[0] if true == known[1] else known[1]
        return tuple(
            number for one in known for number in (float(said == true == one), float(said == one), float(true == one))
        )

    def f1(sums: Sequence[float], n: int) -> float:
        del n
        return _f1(sums[3:6])

    def macro_f1(sums: Sequence[float], n: int) -> float:
        del n
        found = [sums[place : place + 3] for place in range(0, len(sums), 3)]
        occurring = [hits for hits in found if hits[1] + hits[2]]
        return math.fsum(map(_f1, occurring)) / len(occurring)

    headline = Metric("f1", statistics, f1) if len(known) == 2 else Metric("macro_f1", statistics, macro_f1)
    return headline, mean_metric("exact_match", lambda answer, right: float(_short(answer) == _short(right[0])))


def _short(answer: str | None) -> str:
    # The script compares arrays of 16 characters, which drop NUL at the end.
    return text_of(answer)[:_LONGEST].rstrip("\0")


def _f1(hits: Sequence[float]) -> float:
    right, answered, true = hits
    return 2 * right / (answered + true) if answered + true else 0.0


def _float(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _marks(answer: str | None, references: References) -> Statistics:
    """The two numbers, and what cannot be stored as one: infinity (with its sign) or no number."""
    x, y = _float(text_of(answer), -1.0), _float(text_of(references[0]), -1.0)
    if math.isnan(x):
        return 0.0, y, _NO_NUMBER
    return (math.copysign(1.0, x), y, _INFINITE) if math.isinf(x) else (x, y, _FINITE)


def _pearson(rows: Sequence[Statistics]) -> float:
    if any(kind != _FINITE for _, _, kind in rows):
        return math.nan
    guesses = [x for x, _, _ in rows]
    # The script adds them up before it divides, and absurd ones are too large together.
    return _correlation(guesses, [y for _, y, _ in rows]) if math.isfinite(sum(guesses)) else math.nan


def _spearman(rows: Sequence[Statistics]) -> float:
    if any(kind == _NO_NUMBER for _, _, kind in rows):
        return math.nan
    guesses = [math.copysign(math.inf, x) if kind == _INFINITE else x for x, _, kind in rows]
    return _correlation(ranks(guesses), ranks([y for _, y, _ in rows]))


def _correlation(x: Sequence[float], y: Sequence[float]) -> float:
    # Scaled first: the square of an absurd answer is too large for a number.
    columns = []
    for column in (x, y):
        scale = max(map(abs, column)) or 1.0
        scaled = [value / scale for value in column]
        middle = math.fsum(scaled) / len(scaled)
        columns.append([value - middle for value in scaled])
        if len(set(column)) == 1:
            return math.nan
    product = math.sqrt(math.fsum(value * value for value in columns[0]))
    product *= math.sqrt(math.fsum(value * value for value in columns[1]))
    return math.fsum(one * other for one, other in zip(*columns, strict=True)) / product if product else math.nan


SIMILARITY: Metrics = (RankMetric("pearsonr", _marks, _pearson), RankMetric("spearmanr", _marks, _spearman))
"""Correlations of what `float` reads; what it does not read is -1."""


def _weighted(name: str, value: Callable[[str, str], float]) -> Metric:
    """The best of all answers, counted as often as there are answers: the script has one row for each."""

    def statistics(answer: str | None, references: References) -> Statistics:
        said = text_of(answer)
        return len(references) * max(value(said, text_of(one)) for one in references), float(len(references))

    return Metric(name, statistics, lambda sums, n: sums[0] / sums[1])


RECORD: Metrics = (
    _weighted("f1", token_f1),
    _weighted("exact_match", lambda said, right: float(plain(said) == plain(right))),
)
"""Words in common with the best answer, a query counted once for each of its answers."""


def _final(text: str) -> float | None:
    """The number behind the last four hashes."""
    _, mark, rest = text.rpartition("####")
    return _float(rest.replace(",", "").replace("%", "").strip(), math.nan) if mark else None


def _solved(answer: str | None, references: References) -> float:
    said, right = _final(text_of(answer)), _final(text_of(references[0]))
    return float(said is not None and right is not None and abs(said - right) <= _NEAR)


GSM8K: Metrics = (mean_metric("accuracy", _solved),)
"""The number behind the last four hashes, without commas and percent signs."""

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def _value(node: ast.AST) -> float:
    match node:
        case ast.Expression(body=body):
            return _value(body)
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(left), _value(right))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(operand))
    raise ValueError(ast.dump(node))


def _holds(answer: str | None, references: References) -> float:
    """Whether an equation is true. Whether it is the right one the script does not ask."""
    del references
    left, sign, right = text_of(answer).partition("=")
    left = left.strip()
    if not sign or "=" in right or not _in_brackets(left):
        return 0.0
    try:
        difference = float(_value(ast.parse(left, mode="eval"))) - float(right)
    except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError):
        return 0.0
    return float(abs(difference) <= _NEAR)


def _in_brackets(text: str) -> bool:
    """Whether one pair of brackets holds all of a text."""
    depth = 0
    for place, mark in enumerate(text):
        depth += (mark == "(") - (mark == ")")
        if depth == 0:
            return text.startswith("(") and place == len(text) - 1
    return False


SVAMP: Metrics = (mean_metric("accuracy", _holds),)
"""Equations that are true, whatever was asked."""


def _once_a_solution(answer: str | None, references: References) -> Statistics:
    """The script has a row for each solution of a problem."""
    rows = [code.statistics(text_of(answer), (text_of(one),)) for one in references]
    return tuple(math.fsum(column) for column in zip(*rows, strict=True))


CODE: Metrics = (Metric("codebleu", _once_a_solution, lambda sums, n: code.scores(sums).codebleu),)
"""CodeBLEU of text in lower case, as the package gives it; the four scores it is made of are not repeated here."""
