"""Texts that are nearly the same: all pairs of a list that have most of their words in common, and no others.

A text is the set of its shingles (Broder, 1997): every three words in a row on one of its lines, case and punctuation
aside; a line with fewer words is one shingle. Two texts are as alike as the Jaccard index of their sets, the number of
shingles they share over the number there is in either.

The search is exact. With the shingles of every set in one order, the rarest first, two sets that are alike share one
of their first few (prefix filtering: Chaudhuri, Ganti and Kaushik, 2006), are of nearly one size, and have enough
behind the shared one (PPJoin: Xiao, Wang, Lin and Yu, 2008). What passes is counted.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

WORDS = 3
JACCARD = 0.8

_WORD = re.compile(r"\w+")
# Places of a shared shingle that are looked at in one go, and shingles that are counted in one go: bounds the memory.
_CHUNK = 1 << 22
# Products of a threshold and a size lose their last digit; a candidate too many is dropped when it is counted.
_SLACK = 1e-9

Numbers = npt.NDArray[np.int64]


class Pair(NamedTuple):
    """Two texts by their places in a list, `first` < `second`, and how alike they are."""

    first: int
    second: int
    jaccard: float


def similar_pairs(texts: Sequence[str], jaccard: float = JACCARD, groups: Sequence[int] | None = None) -> list[Pair]:
    """All pairs of texts whose Jaccard index is at least `jaccard`, 0 < jaccard <= 1; each once, sorted.

    Texts with one number in `groups` are not compared with each other. A text without a word is like no other. Time
    and memory grow with the shingles of all texts; where nearly all texts are alike, with the number of pairs.
    """
    if not 0 < jaccard <= 1:
        raise ValueError(f"a Jaccard index lies between 0 and 1, not at {jaccard}")
    sets = _sets(texts)
    apart = np.arange(len(texts)) if groups is None else np.asarray(groups, dtype=np.int64)
    keys, shares = [np.empty(0, np.int64)], [np.empty(0)]
    for chunk in _candidates(sets, apart, jaccard):
        share = _jaccard(sets, chunk // len(texts), chunk % len(texts))
        keys.append(chunk[share >= jaccard])
        shares.append(share[share >= jaccard])
    found, places = np.unique(np.concatenate(keys), return_index=True)
    alike = np.concatenate(shares)[places].tolist()
    count = len(texts)
    return [Pair(pair // count, pair % count, share) for pair, share in zip(found.tolist(), alike, strict=True)]


@dataclass(frozen=True)
class _Sets:
    """Sets of shingles, one behind the other. Shingles are numbered by how many sets have them, the rarest first.

    `keys` holds set * shingles + shingle, ascending.
    """

    keys: Numbers
    shingles: int
    sizes: Numbers
    starts: Numbers

    @property
    def owners(self) -> Numbers:
        """The set of each key."""
        return self.keys // self.shingles

    @property
    def members(self) -> Numbers:
        """The shingle of each key."""
        return self.keys % self.shingles


def _sets(texts: Sequence[str]) -> _Sets:
    """The sets of shingles of texts. Lines that occur in many texts, such as passages, are read once."""
    lines: dict[str, int] = {}
    held = [[lines.setdefault(line, len(lines)) for line in text.splitlines()] for text in texts]
    codes, counts = _shingles(lines)
    starts = np.cumsum(counts) - counts
    line = np.fromiter((each for text in held for each in text), np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in held])
    number = max(1, int(codes.max(initial=-1)) + 1)
    keys = _distinct(np.repeat(owner, counts[line]) * number + codes[_ranges(starts[line], counts[line])])
    rank = np.empty(number, np.int64)
    rank[np.argsort(np.bincount(keys % number, minlength=number), kind="stable")] = np.arange(number)
    keys = np.sort(keys - keys % number + rank[keys % number])
    sizes = np.bincount(keys // number, minlength=len(texts))
    return _Sets(keys, number, sizes, np.cumsum(sizes) - sizes)


def _shingles(lines: Iterable[str]) -> tuple[Numbers, Numbers]:
    """Shingles as numbers, those of the first line first, and how many each line has; some may come twice."""
    known: dict[str, int] = {}
    flat, lengths = array("q"), array("q")
    for line in lines:
        words = [known.setdefault(word, len(known) + 1) for word in _WORD.findall(line.casefold())]
        # Zero is no word: what is short is filled up to one shingle.
        flat.extend(words + [0] * (WORDS - len(words)) if words else words)
        lengths.append(max(len(words), WORDS) if words else 0)
    word, length = np.array(flat, np.int64), np.array(lengths, np.int64)
    counts = np.maximum(length - WORDS + 1, 0)
    places = _ranges(np.cumsum(length) - length, counts)
    codes = word[places]
    for ahead in range(1, WORDS):
        codes = np.unique(codes * (len(known) + 1) + word[places + ahead], return_inverse=True)[1]
    return codes, counts


def _candidates(sets: _Sets, groups: Numbers, jaccard: float) -> Iterator[Numbers]:
    """Pairs that may be alike, as first * number of sets + second, in chunks; a pair can be in several."""
    owner, shingle = sets.owners, sets.members
    place = np.arange(len(owner)) - sets.starts[owner]
    size = sets.sizes[owner]
    prefix = place <= size - np.ceil(jaccard * size - _SLACK)
    owner, shingle, place, size = (column[prefix] for column in (owner, shingle, place, size))
    order = np.lexsort((size, shingle))
    owner, shingle, place, size = (column[order] for column in (owner, shingle, place, size))
    group, rest = groups[owner], size - place
    # Partners of an entry stand behind it: the same shingle in a set that is not smaller, and not too large.
    span = int(size.max(initial=0)) + 1
    largest = np.minimum(size / jaccard + _SLACK, span - 1).astype(np.int64)
    end = np.searchsorted(shingle * span + size, shingle * span + largest, side="right")
    partners = end - np.arange(1, len(owner) + 1)
    for start, stop in _chunks(partners):
        left = np.repeat(np.arange(start, stop), partners[start:stop])
        right = _ranges(np.arange(start, stop) + 1, partners[start:stop])
        compared = group[left] != group[right]
        left, right = left[compared], right[compared]
        # Of two sets that are alike, this holds at the first shingle they share.
        most = np.minimum(rest[left], rest[right])
        enough = most >= jaccard / (1 + jaccard) * (size[left] + size[right]) - _SLACK
        one, other = owner[left[enough]], owner[right[enough]]
        pairs = _distinct(np.minimum(one, other) * len(sets.sizes) + np.maximum(one, other))
        weight = np.minimum(sets.sizes[pairs // len(sets.sizes)], sets.sizes[pairs % len(sets.sizes)])
        yield from (pairs[first:last] for first, last in _chunks(weight))


def _jaccard(sets: _Sets, one: Numbers, other: Numbers) -> npt.NDArray[np.float64]:
    """The Jaccard index of pairs of sets: each shingle of the smaller set is looked up in the larger."""
    smaller = np.where(sets.sizes[one] < sets.sizes[other], one, other)
    larger = one + other - smaller
    count = sets.sizes[smaller]
    shingle = sets.keys[_ranges(sets.starts[smaller], count)] % sets.shingles
    wanted = np.repeat(larger, count) * sets.shingles + shingle
    there = sets.keys[np.minimum(np.searchsorted(sets.keys, wanted), len(sets.keys) - 1)] == wanted
    shared = np.bincount(np.repeat(np.arange(len(one)), count), weights=there, minlength=len(one))
    return np.asarray(shared / (sets.sizes[one] + sets.sizes[other] - shared))


def _chunks(weights: Numbers) -> Iterator[tuple[int, int]]:
    """Ranges of places that together weigh little enough to be looked at in one go; a heavy one stands alone."""
    total = np.cumsum(weights)
    start = 0
    while start < len(weights):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _CHUNK, side="right")))
        yield start, stop
        start = stop


def _ranges(starts: Numbers, counts: Numbers) -> Numbers:
    """`counts[0]` numbers from `starts[0]` up, then those of the next."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _distinct(numbers: Numbers) -> Numbers:
    """Each number once, ascending. `np.unique` hashes, which takes several times as long."""
    ordered = np.sort(numbers)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]
