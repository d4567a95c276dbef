"""Metrics: the sums give what the definition gives, whatever the order, within bounds, and as others compute it."""

from __future__ import annotations

import inspect
import math
import random
import warnings
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from peftbench.metrics._metric import Metric, RankMetric
from peftbench.metrics.classification import ACCURACY, f1, macro_f1, matthews
from peftbench.metrics.exact import EXACT_MATCH, TOKEN_F1, plain, token_f1
from peftbench.metrics.numeric import NUMERIC_ACCURACY, same_number
from peftbench.metrics.regression import pearson, spearman
from property.strategies import maybe

Rows = list[tuple[str | None, str]]
FILL = 2.7

WORDS = ["positive", "negative", "neutral"]
pairs = st.lists(st.tuples(maybe(st.sampled_from(WORDS)), st.sampled_from(WORDS)), min_size=1, max_size=40)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9)
number_pairs = st.lists(
    st.tuples(maybe(decimals.map(str) | st.just("nonsense")), decimals.map(str)), min_size=1, max_size=40
)
# Few different numbers, so that ties and constant columns are common.
marks = st.sampled_from(["0", "0.2", "1.75", "2.7", "3.667", "5"])
mark_pairs = st.lists(st.tuples(maybe(marks), marks), min_size=1, max_size=40)
phrases = st.lists(st.sampled_from(["the", "a", "Ada", "ada", "Brook", "St. Ives", "9", ","]), max_size=5).map(" ".join)
phrase_pairs = st.lists(st.tuples(maybe(phrases), phrases), min_size=1, max_size=40)

EXAMINED: dict[str, tuple[Metric | RankMetric, st.SearchStrategy[Rows]]] = {
    "ACCURACY": (ACCURACY, pairs),
    "NUMERIC_ACCURACY": (NUMERIC_ACCURACY, number_pairs),
    "EXACT_MATCH": (EXACT_MATCH, phrase_pairs),
    "TOKEN_F1": (TOKEN_F1, phrase_pairs),
    "f1": (f1("positive"), pairs),
    "macro_f1": (macro_f1(WORDS), pairs),
    "matthews": (matthews(WORDS), pairs),
    "pearson": (pearson(FILL), mark_pairs),
    "spearman": (spearman(FILL), mark_pairs),
}


def test_every_metric_of_the_package_is_examined_here() -> None:
    names = [item.name.removesuffix(".py") for item in files("peftbench.metrics").iterdir()]
    modules = [import_module(f"peftbench.metrics.{name}") for name in names if not name.startswith("_")]
    found = {
        name
        for module in modules
        for name, item in vars(module).items()
        if isinstance(item, Metric | RankMetric)
        or (inspect.isfunction(item) and str(item.__annotations__.get("return")).endswith("Metric"))
    }
    # CodeBLEU has properties of its own.
    assert {name for name in found if name[0] != "_"} - {"mean_metric", "CODE_BLEU"} == set(EXAMINED)


def over(metric: Metric | RankMetric, rows: Rows) -> float:
    return metric.over(metric.statistics(answer, (reference,)) for answer, reference in rows)


def quiet(function: Callable[..., Any], *columns: object, **settings: object) -> float:
    """What another library says; what it leaves undefined is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(np.asarray(function(*columns, **settings)).flat[0])
    return 0.0 if math.isnan(value) else value


def expected(name: str, rows: Rows) -> float:
    """By scikit-learn and scipy: an unreadable answer is a class of its own, or the mean of training."""
    if name in {"pearson", "spearman"}:
        x = [FILL if answer is None else float(answer) for answer, _ in rows]
        y = [float(reference) for _, reference in rows]
        constant = len(rows) < 2 or len(set(x)) == 1 or len(set(y)) == 1
        return 0.0 if constant else quiet(pearsonr if name == "pearson" else spearmanr, x, y)
    answers = ["unreadable" if answer is None else answer for answer, _ in rows]
    right = [reference for _, reference in rows]
    return {
        "ACCURACY": lambda: quiet(accuracy_score, right, answers),
        "f1": lambda: quiet(f1_score, right, answers, labels=["positive"], average="macro", zero_division=0),
        "macro_f1": lambda: quiet(f1_score, right, answers, labels=WORDS, average="macro", zero_division=0),
        "matthews": lambda: quiet(matthews_corrcoef, right, answers),
    }[name]()


BY_OTHERS = ["ACCURACY", "f1", "macro_f1", "matthews", "pearson", "spearman"]


@pytest.mark.parametrize("name", BY_OTHERS)
def test_metric_is_that_of_scikit_learn_and_scipy(name: str) -> None:
    metric, rows_of = EXAMINED[name]

    @given(rows_of)
    def check(rows: Rows) -> None:
        assert over(metric, rows) == pytest.approx(expected(name, rows), abs=1e-9)

    check()


@pytest.mark.parametrize("name", BY_OTHERS)
def test_ten_thousand_sets_of_answers(name: str) -> None:
    draw = random.Random(name)
    words = WORDS if name not in {"pearson", "spearman"} else ["0", "0.2", "1.75", "2.7", "3.667", "5"]
    values = set()
    for _ in range(10_000):
        # Some sets are nearly all right, some nearly all unreadable, some know one word alone.
        right, readable, known = draw.random(), draw.random(), words[: draw.randint(1, len(words))]
        references = draw.choices(words, k=draw.randint(1, 30))
        rows: Rows = [
            (true if draw.random() < right else draw.choice(known) if draw.random() < readable else None, true)
            for true in references
        ]
        values.add(round(value := over(EXAMINED[name][0], rows), 6))
        assert value == pytest.approx(expected(name, rows), abs=1e-9), rows
    assert len(values) > 100


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_of_many_numbers(name: str) -> None:
    draw = random.Random(5)
    metric = EXAMINED[name][0]
    for size in (2, 3, 1500):
        rows: Rows = [(f"{draw.uniform(0, 5):.3g}", f"{draw.uniform(0, 5):.3g}") for _ in range(size)]
        assert over(metric, rows) == pytest.approx(expected(name, rows), abs=1e-9)
        # Hardly a difference is one still; none is none, whatever its digits.
        nearly: Rows = [("3.3" if place else "3.301", reference) for place, (_, reference) in enumerate(rows)]
        assert over(metric, nearly) == pytest.approx(expected(name, nearly), abs=1e-6)
        assert over(metric, [("3.3", reference) for _, reference in rows]) == 0
        assert over(metric, [(answer, "4.1") for answer, _ in rows]) == 0


@given(number_pairs)
def test_numeric_accuracy_is_the_share_of_equal_values(rows: Rows) -> None:
    right = sum(
        answer not in {None, "nonsense"} and Decimal(str(answer)) == Decimal(reference) for answer, reference in rows
    )
    assert over(NUMERIC_ACCURACY, rows) == pytest.approx(right / len(rows), abs=1e-12)


@pytest.mark.parametrize("name", EXAMINED)
def test_laws_of_every_metric(name: str) -> None:
    metric, rows_of = EXAMINED[name]
    correlation = name in {"matthews", "pearson", "spearman"}

    @given(rows_of, st.randoms(use_true_random=False))
    def check(rows: Rows, random: object) -> None:
        value = over(metric, rows)
        assert -1 * correlation <= value <= 1
        shuffled = list(rows)
        random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis leaves its generator unannotated
        assert over(metric, shuffled) == pytest.approx(value, abs=1e-9)
        assert over(metric, rows * 3) == pytest.approx(value, abs=1e-9)
        statistics = [metric.statistics(answer, (reference,)) for answer, reference in rows]
        if isinstance(metric, Metric):
            # The sums of parts give the whole: what resampling and merging rely on.
            sums = [math.fsum(column) for column in zip(*statistics, strict=True)]
            assert metric.of_sums(sums, len(rows)) == pytest.approx(value, abs=1e-9)
        assert over(metric, [(reference, reference) for _, reference in rows]) >= value
        assert over(metric, [(None, reference) for _, reference in rows]) == 0
        assert all(math.isfinite(number) for row in statistics for number in row)

    check()


@given(st.lists(st.tuples(maybe(phrases), st.lists(phrases, min_size=1, max_size=3).map(tuple)), min_size=1))
def test_the_answer_that_fits_best_counts(rows: list[tuple[str | None, tuple[str, ...]]]) -> None:
    for metric in (EXACT_MATCH, TOKEN_F1, NUMERIC_ACCURACY, ACCURACY):
        for answer, references in rows:
            (best,) = metric.statistics(answer, references)
            assert best == max(metric.statistics(answer, (one,))[0] for one in references)


@given(phrases, phrases)
def test_words_in_common(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert (token_f1(one, other) == 1) == (sorted(plain(one).split()) == sorted(plain(other).split()) != [])


@pytest.mark.parametrize(
    ("answer", "reference", "f1_of", "exact"),
    [
        ("The Hague", "hague", 1, 1),
        ("U.S. Navy", "US navy", 1, 1),
        ("Ada Brook", "Brook", 2 / 3, 0),
        ("Brook", "Lorne", 0, 0),
        ("an apple a day", "apple day", 1, 1),
        ("no no no", "no", 0.5, 0),
    ],
)
def test_short_texts(answer: str, reference: str, f1_of: float, exact: int) -> None:
    assert over(TOKEN_F1, [(answer, reference)]) == pytest.approx(f1_of)
    assert over(EXACT_MATCH, [(answer, reference)]) == exact


@given(decimals)
def test_a_number_is_the_same_however_it_is_written(value: Decimal) -> None:
    assert same_number(f"{value:.6f}", str(value))
    assert same_number(f"{value:e}", str(value))
    assert not same_number(str(value + 1), str(value))


@pytest.mark.parametrize("answer", [None, "", "x", "1,000", "NaN", "sNaN", "Infinity"])
def test_what_is_no_number_is_never_right(answer: str | None) -> None:
    assert same_number(answer, "1000") is False
