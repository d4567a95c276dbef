"""CodeBLEU of Python code: how much of a reference's tokens, syntax and data flow a candidate has.

Ren et al., 2020 (arXiv 2009.10297): the mean of four scores, BLEU, BLEU with keywords weighing more, the share of
the reference's syntax sub-trees and the share of its data flows that the candidate has. The numbers are those of the
package `codebleu` 0.7.0 (`lang="python"`, equal weights), with which scores are compared; where paper and package
differ, the package is followed, and the docstrings say so.

Over a corpus nothing is averaged: what is counted is summed, and the scores are made of the sums.
"""

from __future__ import annotations

import keyword
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from peftbench.metrics._comments import without_comments
from peftbench.metrics._dataflow import data_flow
from peftbench.metrics._metric import Metric, References, Statistics
from peftbench.metrics._python_tree import parse, subtrees

_ORDERS = (1, 2, 3, 4)
# `_` is a soft keyword too, and none here.
_KEYWORDS = {*keyword.kwlist, "case", "match", "type"}
_WEIGHT_OF_OTHERS = 0.2
# Method 1 of Chen and Cherry (2014): what is counted where not one n-gram of an order matches.
_NO_MATCH = 0.1
# The package takes the length of a pair, tokens and weights, for the length of the tokens.
_REFERENCE_LENGTH_WHEN_WEIGHTED = 2


@dataclass(frozen=True)
class CodeBleu:
    """CodeBLEU and the four scores it is made of, each from 0 to 1."""

    codebleu: float
    ngram_match: float
    weighted_ngram_match: float
    syntax_match: float
    dataflow_match: float


def statistics(candidate: str, references: Sequence[str]) -> Statistics:
    """The 24 numbers of one example, whose sums over examples `scores` takes.

    Ten are of BLEU: matching n-grams and n-grams of the candidate for n = 1 to 4, the length of the candidate and of
    the reference; then ten of weighted BLEU, and matching and all sub-trees, matching and all data flows of the
    references. With several references the n-grams of BLEU may match any, the rest is summed over the references.

    Any text has numbers: what is no code has a tree of errors, and mostly no data flow. Raises ValueError without a
    reference, MissingExtra without tree-sitter.
    """
    if not references:
        raise ValueError("CodeBLEU needs at least one reference.")
    candidate, references = candidate.strip(), [reference.strip() for reference in references]
    words, wanted = candidate.split(), [reference.split() for reference in references]
    return (
        *_bleu_statistics(words, wanted),
        *_weighted_statistics(words, wanted),
        *_tree_statistics(candidate, references),
    )


def scores(sums: Sequence[float]) -> CodeBleu:
    """CodeBLEU from the element-wise sums of the statistics of at least one example.

    As in the package, a data-flow score of 0 counts as 1 in CodeBLEU: meant for references without data flow, but a
    candidate that has none of it gains as much.
    """
    ngrams, weighted = _bleu(sums[:10]), _bleu(sums[10:20])
    subtrees_found, all_subtrees, flows_found, all_flows = sums[20:]
    syntax = subtrees_found / all_subtrees
    flow = flows_found / all_flows if all_flows else 0.0
    return CodeBleu((ngrams + weighted + syntax + (flow or 1.0)) / 4, ngrams, weighted, syntax, flow)


def _with_the_nearest(answer: str | None, references: References) -> Statistics:
    alone = [statistics(answer or "", (reference,)) for reference in references]
    return max(alone, key=lambda numbers: _code_bleu(numbers, 1))


def _code_bleu(sums: Sequence[float], n: int) -> float:
    del n
    found = scores(sums)
    parts = [found.ngram_match, found.weighted_ngram_match, found.syntax_match]
    # Without data flow in a reference there is nothing to find or to miss.
    parts += [found.dataflow_match] if sums[23] else []
    return math.fsum(parts) / len(parts)


CODE_BLEU = Metric("codebleu", _with_the_nearest, _code_bleu)
"""CodeBLEU with the reference that fits best, so that whoever writes one of many solutions does not lose by the others.

Where the package takes a score of the data flow of 0 for 1, here it is 0, and where no reference has any data flow, the
mean is of the three other scores: an answer that has nothing gains nothing. A perfect answer of fewer than five words
may be below 1, since short code lacks some of the n-grams that are counted: perfect answers to CoNaLa score 0.933.
"""


def _bleu(sums: Sequence[float]) -> float:
    """BLEU (Papineni et al., 2002): the geometric mean of four shares, times a penalty for being short."""
    matches, totals, (length, reference_length) = sums[:4], sums[4:8], sums[8:]
    if not matches[0]:
        return 0.0
    shares = [(match or _NO_MATCH) / total for match, total in zip(matches, totals, strict=True)]
    brevity = min(0.0, 1 - reference_length / length)
    return math.exp(brevity + math.fsum(map(math.log, shares)) / len(shares))


def _bleu_statistics(words: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Words are what white space parts. The length that counts is the reference's nearest to the candidate's."""
    matches, totals = [], []
    for order in _ORDERS:
        found = _ngrams(words, order)
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _ngrams(reference, order)
        matches.append((found & most).total())
        totals.append(max(1, found.total()))
    nearest = min((len(reference) for reference in references), key=lambda length: (abs(length - len(words)), length))
    return (*matches, *totals, len(words), nearest)


def _weighted_statistics(words: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Section 3.1 of the paper: a keyword weighs five times as much as another word, in single words only.

    The paper weighs the shares of the candidate's n-grams that match, the package those of the references'.
    """
    matches, totals = [], []
    for order in _ORDERS:
        found = _ngrams(words, order)
        wanted = [_ngrams(reference, order) for reference in references]
        weigh = _weight if order == 1 else Counter.total
        matches.append(math.fsum(weigh(found & each) for each in wanted))
        totals.append(math.fsum(max(1, weigh(each)) for each in wanted))
    return (*matches, *totals, len(words), _REFERENCE_LENGTH_WHEN_WEIGHTED)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _weight(counts: Counter[tuple[str, ...]]) -> float:
    return math.fsum(count * (1 if word in _KEYWORDS else _WEIGHT_OF_OTHERS) for (word,), count in counts.items())


def _tree_statistics(candidate: str, references: Sequence[str]) -> Statistics:
    """Sections 3.2 and 3.3 of the paper, of code without comments and docstrings.

    A sub-tree of a reference matches when the candidate has it anywhere, however often (the paper counts those of the
    candidate, each match once); a data flow matches as often as the candidate has it. As in the package, docstrings
    are taken from the candidate once more for every reference.
    """
    sums = [0, 0, 0, 0]
    for reference in map(without_comments, references):
        candidate = without_comments(candidate)
        tree, wanted_tree = parse(candidate), parse(reference)
        numbers: dict[object, int] = {}
        wanted, there = subtrees(wanted_tree, numbers), set(subtrees(tree, numbers))
        flows, wanted_flows = data_flow(tree, candidate), data_flow(wanted_tree, reference)
        counts = (
            sum(each in there for each in wanted),
            len(wanted),
            (flows & wanted_flows).total(),
            wanted_flows.total(),
        )
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
    return tuple(sums)
