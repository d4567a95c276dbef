"""Texts that are nearly the same: for each of a list, the one before it that has most of its words, if one has.

A text is the set of its shingles (Broder, 1997): every three words in a row on one of its lines, case and punctuation
aside; a line with fewer words is one shingle. Two texts are as alike as the Jaccard index of their sets, the number of
shingles they share over the number there is in either.

With the shingles of every set in one order, the rarest first, two sets that are alike share one of their first few
(prefix filtering: Chaudhuri, Ganti and Kaushik, 2006), are of nearly one size, and have enough behind the shared one
(PPJoin: Xiao, Wang, Lin and Yu, 2008): enough to be more alike than what was found before. What passes is counted.

The search is exact, unless nearly all texts are alike, so that there are as many pairs as texts times texts. Sets that
share a shingle are compared in the order of their sizes, neighbours first, and after some work the search ends and says
so.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORDS = 3
JACCARD = 0.8

_WORD = re.compile(r"\w+")
# Places of a shared shingle that are looked at in one go, and shingles that are counted in one go: bounds the memory.
_CHUNK = 1 << 20
# How much farther each round looks for partners: first at the next one, then at this many, and so on.
_FARTHER = 4
# Shingles that are counted before the search ends, four times what any of the 27 data sets takes: bounds the time. To
# find that two sets share a shingle takes about as long as to count an eighth of one.
_WORK = 1 << 27
_FOUND_PER_COUNTED = 8
# Products of a threshold and a size lose their last digit; a candidate too many is dropped when it is counted.
_SLACK = 1e-9

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Closest:
    """For each side and text the place of the earlier text of that side that is most like it, and how alike they are.

    Both arrays are of shape (sides, texts), the place is -1 where none is near. Unless the search is `complete`, some
    may be missing, and those found need not be the closest.
    """

    place: Numbers
    jaccard: npt.NDArray[np.float64]
    complete: bool = True


def closest_before(
    texts: Sequence[str],
    jaccard: float = JACCARD,
    groups: Sequence[int] | None = None,
    sides: Sequence[int] | None = None,
) -> Closest:
    """The earlier text that is most like each, of those whose Jaccard index is at least `jaccard`, 0 < jaccard <= 1.

    Texts with one number in `groups` are not compared with each other. `sides` says where each text stands, from 0 on.
    Of texts that are equally close it is any. A text without a word is like no other. Time and memory grow with the
    shingles of all texts, and time with the pairs that share rare ones, up to a bound.
    """
    if not 0 < jaccard <= 1:
        raise ValueError(f"a Jaccard index lies between 0 and 1, not at {jaccard}")
    sets = _sets(texts)
    apart = np.arange(len(texts)) if groups is None else np.asarray(groups, dtype=np.int64)
    best = _Best(np.zeros(len(texts), np.int64) if sides is None else np.asarray(sides, dtype=np.int64))
    spent = 0
    for work, pairs in _candidates(sets, apart, jaccard, best):
        if spent > _WORK:
            return best.closest(complete=False)
        spent += work
        one, other = pairs // len(texts), pairs % len(texts)
        share = _jaccard(sets, one, other)
        near = share >= jaccard
        best.take(one[near], other[near], share[near])
    return best.closest(complete=True)


class _Best:
    """The closest that were found so far."""

    def __init__(self, sides: Numbers) -> None:
        self._sides = sides
        self._shape = int(sides.max(initial=0)) + 1, len(sides)
        self._place = np.full(self._shape[0] * self._shape[1], -1)
        self._share = np.zeros(self._shape[0] * self._shape[1])

    def closest(self, *, complete: bool) -> Closest:
        """What was found, by side."""
        return Closest(self._place.reshape(self._shape), self._share.reshape(self._shape), complete)

    def share(self, one: Numbers, other: Numbers) -> npt.NDArray[np.float64]:
        """How alike the closest is that was found, for the later of two texts and the side of the earlier."""
        return self._share[self._key(one, other)]

    def take(self, one: Numbers, other: Numbers, share: npt.NDArray[np.float64]) -> None:
        """Keep of pairs, the earlier text first, those that are closer."""
        key = self._key(one, other)
        order = np.lexsort((one, -share, key))
        chosen = order[np.flatnonzero(np.diff(key[order], prepend=-1))]
        key, one, share = key[chosen], one[chosen], share[chosen]
        better = share > self._share[key]
        self._share[key[better]], self._place[key[better]] = share[better], one[better]

    def _key(self, one: Numbers, other: Numbers) -> Numbers:
        return self._sides[np.minimum(one, other)] * self._shape[1] + np.maximum(one, other)


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


def _candidates(sets: _Sets, groups: Numbers, jaccard: float, best: _Best) -> Iterator[tuple[int, Numbers]]:
    """Pairs that may be closer than the best so far, as first * number of sets + second, and the work each lot takes.

    A pair can be in several.
    """
    owner, size, rest, partners = _entries(sets, jaccard)
    group = groups[owner]
    for entry, partner in _neighbours(partners):
        yield len(entry) // _FOUND_PER_COUNTED, np.empty(0, np.int64)
        compared = group[entry] != group[partner]
        left, right = entry[compared], partner[compared]
        # At the first shingle they share, no more than this many are shared.
        most = np.minimum(rest[left], rest[right])
        bound = most / (size[left] + size[right] - most)
        enough = (bound >= jaccard - _SLACK) & (bound > best.share(owner[left], owner[right]))
        one, other = owner[left[enough]], owner[right[enough]]
        pairs = _distinct(np.minimum(one, other) * len(sets.sizes) + np.maximum(one, other))
        weight = np.minimum(sets.sizes[pairs // len(sets.sizes)], sets.sizes[pairs % len(sets.sizes)])
        for first, last in _chunks(weight):
            yield int(weight[first:last].sum()), pairs[first:last]


def _entries(sets: _Sets, jaccard: float) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """The rarest shingles of every set, by shingle, then by size of the set: the set, its size, the shingles from this
    one on, and how many of the next entries are its partners: the same shingle, and a set that is not too large.
    """
    owner, shingle = sets.owners, sets.members
    place = np.arange(len(owner)) - sets.starts[owner]
    size = sets.sizes[owner]
    prefix = place <= size - np.ceil(jaccard * size - _SLACK)
    owner, shingle, place, size = (column[prefix] for column in (owner, shingle, place, size))
    # Of sets of one size the order is anybody's: where the search ends early, neighbours are of every side.
    order = np.lexsort((np.random.default_rng(0).permutation(len(sets.sizes))[owner], size, shingle))
    owner, shingle, place, size = (column[order] for column in (owner, shingle, place, size))
    span = int(size.max(initial=0)) + 1
    largest = np.minimum(size / jaccard + _SLACK, span - 1).astype(np.int64)
    end = np.searchsorted(shingle * span + size, shingle * span + largest, side="right")
    return owner, size, size - place, end - np.arange(1, len(owner) + 1)


def _neighbours(partners: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """All entries with their partners, which stand behind them, in chunks; the nearest partners of all come first."""
    near, far = 1, 1
    while len(entries := np.flatnonzero(partners >= near)):
        counts = np.minimum(partners[entries], far) - near + 1
        for start, stop in _chunks(counts):
            left = np.repeat(entries[start:stop], counts[start:stop])
            yield left, _ranges(entries[start:stop] + near, counts[start:stop])
        near, far = far + 1, far * _FARTHER


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
