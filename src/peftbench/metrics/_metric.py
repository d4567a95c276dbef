"""What a metric is: numbers for one example, and a function of the sums of those numbers.

Kept apart, resampling examples (for an interval) costs one weighted sum per resample and never asks the model again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Statistics = tuple[float, ...]
# All answers that count as right, at least one; the first is the one that is trained on.
References = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """A named metric.

    `statistics(answer, references)` gives the numbers of one example; `answer` is None when it could not be read.
    `of_sums(sums, n)` gives the metric from the element-wise sums over `n` examples, n >= 1.
    """

    name: str
    statistics: Callable[[str | None, References], Statistics]
    of_sums: Callable[[Sequence[float], int], float]

    def over(self, statistics: Iterable[Statistics]) -> float:
        """The metric over the statistics of at least one example."""
        rows = list(statistics)
        return self.of_sums([sum(column) for column in zip(*rows, strict=True)], len(rows))


@dataclass(frozen=True)
class RankMetric:
    """A metric that compares examples with one another, so that sums do not tell it; `over` is given all of them."""

    name: str
    statistics: Callable[[str | None, References], Statistics]
    of_rows: Callable[[Sequence[Statistics]], float]

    def over(self, statistics: Iterable[Statistics]) -> float:
        """The metric over the statistics of at least one example."""
        return self.of_rows(list(statistics))


def mean_metric(name: str, value: Callable[[str | None, References], float]) -> Metric:
    """A metric that is the mean of one number per example."""
    return Metric(name, lambda answer, references: (value(answer, references),), lambda sums, n: sums[0] / n)
