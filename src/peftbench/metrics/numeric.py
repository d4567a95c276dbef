"""Metrics of answers that are a number."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from peftbench.metrics._metric import mean_metric


def same_number(answer: str | None, reference: str) -> bool:
    """Whether two decimal numbers are the same value: `18`, `18.0` and `1.8e1` are."""
    if answer is None:
        return False
    try:
        return Decimal(answer) == Decimal(reference)
    except InvalidOperation:
        return False


NUMERIC_ACCURACY = mean_metric(
    "accuracy", lambda answer, references: float(any(same_number(answer, one) for one in references))
)
"""Share of answers with the value of a reference; an unreadable answer is wrong."""
