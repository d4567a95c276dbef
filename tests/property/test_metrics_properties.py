"""Metrics: the sums give what the definition gives, whatever the order, within bounds, and as others compute it."""

from __future__ import annotations

import math
from decimal import Decimal
from importlib import import_module
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from peftbench.metrics._metric import Metric
from peftbench.metrics.classification import ACCURACY
from peftbench.metrics.numeric import NUMERIC_ACCURACY, same_number
from property.strategies import maybe

WORDS = ["positive", "negative", "neutral"]
pairs = st.lists(st.tuples(maybe(st.sampled_from(WORDS)), st.sampled_from(WORDS)), min_size=1, max_size=40)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9)
number_pairs = st.lists(
    st.tuples(maybe(decimals.map(str) | st.just("nonsense")), decimals.map(str)), min_size=1, max_size=40
)


def _all_metrics() -> list[Metric]:
    names = [item.name.removesuffix(".py") for item in files("peftbench.metrics").iterdir()]
    modules = [import_module(f"peftbench.metrics.{name}") for name in names if not name.startswith("_")]
    return [item for module in modules for item in vars(module).values() if isinstance(item, Metric)]


def test_every_metric_of_the_package_is_examined_here() -> None:
    assert {id(metric) for metric in _all_metrics()} == {id(ACCURACY), id(NUMERIC_ACCURACY)}


def over(metric: Metric, rows: list[tuple[str | None, str]]) -> float:
    return metric.over(metric.statistics(answer, reference) for answer, reference in rows)


@given(pairs)
def test_accuracy_is_that_of_scikit_learn(rows: list[tuple[str | None, str]]) -> None:
    expected = accuracy_score([reference for _, reference in rows], [answer or "unreadable" for answer, _ in rows])
    assert over(ACCURACY, rows) == pytest.approx(expected, abs=1e-12)


@given(number_pairs)
def test_numeric_accuracy_is_the_share_of_equal_values(rows: list[tuple[str | None, str]]) -> None:
    right = sum(
        answer not in {None, "nonsense"} and Decimal(str(answer)) == Decimal(reference) for answer, reference in rows
    )
    assert over(NUMERIC_ACCURACY, rows) == pytest.approx(right / len(rows), abs=1e-12)


@pytest.mark.parametrize("metric", [ACCURACY, NUMERIC_ACCURACY], ids=["words", "numbers"])
def test_laws_of_every_metric(metric: Metric) -> None:
    rows_of = pairs if metric is ACCURACY else number_pairs

    @given(rows_of, st.randoms(use_true_random=False))
    def check(rows: list[tuple[str | None, str]], random: object) -> None:
        value = over(metric, rows)
        assert 0 <= value <= 1
        shuffled = list(rows)
        random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis leaves its generator unannotated
        assert over(metric, shuffled) == pytest.approx(value, abs=1e-12)
        assert over(metric, rows * 3) == pytest.approx(value, abs=1e-12)
        # The sums of parts give the whole: what resampling and merging rely on.
        statistics = [metric.statistics(*row) for row in rows]
        sums = [math.fsum(column) for column in zip(*statistics, strict=True)]
        assert metric.of_sums(sums, len(rows)) == pytest.approx(value, abs=1e-12)
        assert over(metric, [(reference, reference) for _, reference in rows]) == 1
        assert over(metric, [(None, reference) for _, reference in rows]) == 0
        assert all(math.isfinite(number) for row in statistics for number in row)

    check()


@given(decimals)
def test_a_number_is_the_same_however_it_is_written(value: Decimal) -> None:
    assert same_number(f"{value:.6f}", str(value))
    assert same_number(f"{value:e}", str(value))
    assert not same_number(str(value + 1), str(value))


@pytest.mark.parametrize("answer", [None, "", "x", "1,000", "NaN", "sNaN", "Infinity"])
def test_what_is_no_number_is_never_right(answer: str | None) -> None:
    assert same_number(answer, "1000") is False
