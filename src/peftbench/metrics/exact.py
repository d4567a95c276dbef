"""Metrics of short texts with several right answers (Rajpurkar et al., 2016, section 6; ReCoRD, Zhang et al., 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter

from peftbench.metrics._metric import mean_metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


def plain(text: str) -> str:
    """Lower case, without punctuation, articles and idle white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words two texts have in common, repeated words counted as often as they occur."""
    said, wanted = plain(answer).split(), plain(reference).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


EXACT_MATCH = mean_metric(
    "exact_match",
    lambda answer, references: float(answer is not None and plain(answer) in map(plain, references)),
)
"""Share of answers that are one of the references, but for case, punctuation and articles."""

TOKEN_F1 = mean_metric(
    "f1",
    lambda answer, references: 0.0 if answer is None else max(token_f1(answer, one) for one in references),
)
"""Mean over the examples of the F1 with the reference that fits best."""
