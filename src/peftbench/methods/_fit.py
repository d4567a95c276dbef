"""Sizes that have to divide the widths of layers, fitted to a model."""

from __future__ import annotations

import math
from collections.abc import Iterable


def largest_divisor(widths: Iterable[int], at_most: int) -> int:
    """The largest whole number up to `at_most` that divides every width; without any width, `at_most`."""
    common = math.gcd(*widths) or at_most
    return next(size for size in range(min(at_most, common), 0, -1) if common % size == 0)
