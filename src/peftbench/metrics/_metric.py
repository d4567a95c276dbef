"""What a metric is: numbers for one example, and a function of the sums of those numbers.

Kept apart, resampling examples (for an interval) costs one weighted sum per resample and never asks the model again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Statistics = tuple[float, ...]


@dataclass(frozen=True)
class Metric:
    """A named metric.

    `statistics(answer, reference)` gives the numbers of one example; `answer` is None when it could not be read.
    `of_sums(sums, n)` gives the metric from the element-wise sums over `n` examples, n >= 1.
    """

    name: str
    statistics: Callable[[str | None, str], Statistics]
    of_sums: Callable[[Sequence[float], int], float]

    def over(self, statistics: Iterable[Statistics]) -> float:
        """The metric over the statistics of at least one example."""
        rows = list(statistics)
        return self.of_sums([sum(column) for column in zip(*rows, strict=True)], len(rows))


def mean_metric(name: str, value: Callable[[str | None, str], float]) -> Metric:
    """A metric that is the mean of one number per example."""
    return Metric(name, lambda answer, reference: (value(answer, reference),), lambda sums, n: sums[0] / n)
