"""Correlations of answers that are a number with the numbers people gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from peftbench.metrics._metric import Metric, RankMetric, References, Statistics

# Sums of rounded numbers tell a constant column only up to their last digits.
_CONSTANT = 1e-12


def pearson(fill: float, name: str = "pearson") -> Metric:
    """Pearson's correlation, -1 to 1; 0 when all answers, or all references, are the same.

    An unreadable answer counts as `fill`, the mean of the training references: it says nothing about its example.
    """

    def statistics(answer: str | None, references: References) -> Statistics:
        # Distances from the fill: small numbers, whose sums keep their digits.
        x, y = (value - fill for value in _pair(fill)(answer, references))
        return x, y, x * x, y * y, x * y

    return Metric(name, statistics, _correlation)


def spearman(fill: float, name: str = "spearman") -> RankMetric:
    """Spearman's correlation: Pearson's of the ranks, equal numbers sharing their mean rank. `fill` as in `pearson`."""

    def of_rows(rows: Sequence[Statistics]) -> float:
        columns = [ranks([row[place] for row in rows]) for place in (0, 1)]
        middle = (len(rows) + 1) / 2
        pairs = [(x - middle, y - middle) for x, y in zip(*columns, strict=True)]
        sums = [math.fsum(column) for column in zip(*((x, y, x * x, y * y, x * y) for x, y in pairs), strict=True)]
        return _correlation(sums, len(rows))

    return RankMetric(name, _pair(fill), of_rows)


def _pair(fill: float) -> Callable[[str | None, References], Statistics]:
    return lambda answer, references: (fill if answer is None else float(answer), float(references[0]))


def _correlation(sums: Sequence[float], n: int) -> float:
    x, y, xx, yy, xy = sums
    of_x, of_y = xx - x * x / n, yy - y * y / n
    if of_x <= _CONSTANT * xx or of_y <= _CONSTANT * yy:
        return 0.0
    return max(-1.0, min(1.0, (xy - x * y / n) / math.sqrt(of_x * of_y)))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for place in order[start:end]:
                ranks[place] = (start + 1 + end) / 2
            start = end
    return ranks
