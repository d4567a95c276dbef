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


NUMERIC_ACCURACY = mean_metric("accuracy", lambda answer, reference: float(same_number(answer, reference)))
"""Share of answers with the value of the reference; an unreadable answer is wrong."""
