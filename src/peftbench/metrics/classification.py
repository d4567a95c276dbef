"""Metrics of label tasks. An unreadable answer is a class of its own, which is never right and never predicted well."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peftbench.metrics._metric import Metric, References, Statistics, mean_metric

ACCURACY = mean_metric("accuracy", lambda answer, references: float(answer in references))
"""Share of answers equal to the reference; an unreadable answer is wrong."""


def f1(positive: str, name: str = "f1") -> Metric:
    """F1 of one class: of 2 precision recall / (precision + recall), 0 when nothing is right."""

    def statistics(answer: str | None, references: References) -> Statistics:
        return _hits(positive, answer, references)

    return Metric(name, statistics, lambda sums, n: _f1(sums))


def macro_f1(classes: Sequence[str], name: str = "macro_f1") -> Metric:
    """The mean of the F1 of all declared classes; one that neither occurs nor is predicted counts 0."""

    def statistics(answer: str | None, references: References) -> Statistics:
        return tuple(number for one in classes for number in _hits(one, answer, references))

    def of_sums(sums: Sequence[float], n: int) -> float:
        del n
        return math.fsum(_f1(sums[3 * place : 3 * place + 3]) for place in range(len(classes))) / len(classes)

    return Metric(name, statistics, of_sums)


def matthews(classes: Sequence[str], name: str = "matthews_correlation") -> Metric:
    """The correlation of answers and classes, -1 to 1 (Matthews, 1975; for more than two classes Gorodkin, 2004).

    0 where it is undefined: all answers are the same, or all references.
    """
    count = len(classes)

    def statistics(answer: str | None, references: References) -> Statistics:
        answered = tuple(float(answer == one) for one in classes)
        true = tuple(float(references[0] == one) for one in classes)
        return (float(answer == references[0]), *answered, *true)

    def of_sums(sums: Sequence[float], n: int) -> float:
        correct, answered, true = sums[0], [*sums[1 : count + 1]], sums[count + 1 :]
        answered.append(n - sum(answered))
        spread = (n * n - _squares(answered)) * (n * n - _squares(true))
        together = sum(one * other for one, other in zip(answered, true, strict=False))
        return (correct * n - together) / math.sqrt(spread) if spread > 0 else 0.0

    return Metric(name, statistics, of_sums)


def _hits(one: str, answer: str | None, references: References) -> Statistics:
    """For one class: right, answered, true."""
    answered, true = answer == one, references[0] == one
    return float(answered and true), float(answered), float(true)


def _f1(hits: Sequence[float]) -> float:
    right, answered, true = hits
    return 2 * right / (answered + true) if answered + true else 0.0


def _squares(values: Sequence[float]) -> float:
    return sum(value * value for value in values)
