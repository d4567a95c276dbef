"""Near duplicates: the fast search finds what comparing every pair finds, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peftbench import near_duplicates
from peftbench.near_duplicates import JACCARD, WORDS, Closest, closest_before

# Few words and few lines, so that many shingles are shared.
phrases = st.lists(st.sampled_from(["a", "B", "b", "c!", "Straße", "7"]), max_size=9).map(" ".join)
texts = st.lists(st.lists(phrases, max_size=3).map("\n".join), max_size=14)
any_texts = st.lists(st.text(max_size=12), max_size=8)
thresholds = st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, JACCARD, 0.9, 1.0]) | st.floats(0.01, 1)

# The closest of each text by its place and the side of the earlier one: how alike they are.
Shares = dict[tuple[int, int], float]


def shingles(text: str) -> set[tuple[str, ...]]:
    found = set()
    for line in text.splitlines():
        words = re.findall(r"\w+", line.casefold())
        found |= {tuple(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))} - {()}
    return found


def share(one: str, other: str) -> float:
    left, right = shingles(one), shingles(other)
    return float(Fraction(len(left & right), len(left | right))) if left or right else 0.0


def as_dict(found: list[str], closest: Closest) -> Shares:
    """What was found, each held against the pair of texts that is named."""
    assert closest.place.shape == closest.jaccard.shape
    shares: Shares = {}
    for side, places in enumerate(closest.place.tolist()):
        for text, place in enumerate(places):
            if place >= 0:
                assert place < text
                assert closest.jaccard[side, text] == share(found[place], found[text])
                shares[side, text] = float(closest.jaccard[side, text])
    return shares


def every_pair(found: list[str], jaccard: float, groups: list[int] | None = None, sides: Sequence[int] = ()) -> Shares:
    best: Shares = {}
    for one, other in combinations(range(len(found)), 2):
        value, side = share(found[one], found[other]), sides[one] if sides else 0
        if value >= jaccard and (groups is None or groups[one] != groups[other]):
            best[side, other] = max(value, best.get((side, other), 0.0))
    return best


def numbers(data: st.DataObject, size: int) -> list[int]:
    return data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))


@settings(deadline=None)
@given(texts | any_texts, thresholds)
@example([], 0.5)
@example(["", " . ", "\n\n"], 0.5)
@example(["a b c d e", "a b c d e", "A, b c; d e"], 1.0)
def test_found_is_what_comparing_every_pair_finds(found: list[str], jaccard: float) -> None:
    closest = closest_before(found, jaccard)
    assert closest.complete
    assert as_dict(found, closest) == every_pair(found, jaccard)


@pytest.mark.parametrize(("chunk", "farther"), [(1, 4), (5, 4), (1 << 20, 2), (3, 100)])
@settings(deadline=None)
@given(found=texts, jaccard=thresholds)
def test_the_size_of_the_chunks_changes_nothing(chunk: int, farther: int, found: list[str], jaccard: float) -> None:
    with patch.multiple(near_duplicates, _CHUNK=chunk, _FARTHER=farther):
        assert as_dict(found, closest_before(found, jaccard)) == every_pair(found, jaccard)


@settings(deadline=None)
@given(texts, thresholds, st.data())
def test_texts_of_one_group_are_not_compared_and_sides_are_told_apart(
    found: list[str], jaccard: float, data: st.DataObject
) -> None:
    groups, sides = numbers(data, len(found)), numbers(data, len(found))
    closest = closest_before(found, jaccard, groups, sides)
    assert as_dict(found, closest) == every_pair(found, jaccard, groups, sides)


@settings(deadline=None)
@given(texts, thresholds, st.integers(0, 40), st.data())
def test_a_search_that_ends_early_says_so_and_claims_nothing_false(
    found: list[str], jaccard: float, work: int, data: st.DataObject
) -> None:
    groups = numbers(data, len(found))
    wanted = every_pair(found, jaccard, groups)
    with patch.multiple(near_duplicates, _CHUNK=5, _WORK=work):
        closest = closest_before(found, jaccard, groups)
    shares = as_dict(found, closest)
    assert all(value <= wanted[text] for text, value in shares.items())
    assert shares == wanted or not closest.complete


def test_alike_texts_by_the_thousand_end_in_time_and_nearly_all_are_found() -> None:
    """Comparing every two of them would count three thousand million shingles."""
    random = Random(0)
    words = [f"word{number}" for number in range(60)]
    found = []
    for _ in range(10_000):
        text = list(words)
        text[random.randrange(60)] = f"other{random.randrange(10**9)}"
        found.append(" ".join(text))
    with patch.object(near_duplicates, "_WORK", 1 << 24):
        closest = closest_before(found)
    assert not closest.complete
    assert (closest.place[0] >= 0).sum() > 9_900


@settings(deadline=None)
@given(texts, thresholds, st.randoms(use_true_random=False))
def test_the_order_of_the_texts_decides_only_which_comes_first(
    found: list[str], jaccard: float, random: Random
) -> None:
    """Texts of a side of their own, all before the others, are the same choice for each, in whatever order."""
    count = len(found)

    def closest(order: list[int]) -> dict[str, float]:
        texts = [*(found[place] for place in order), *found]
        shares = closest_before(texts, jaccard, sides=[0] * count + [1] * count).jaccard[0, count:]
        return dict(zip(found, shares.tolist(), strict=True))

    order = list(range(count))
    random.shuffle(order)
    assert closest(order) == closest(list(range(count)))


@settings(deadline=None)
@given(texts)
def test_wholly_alike_are_equal_sets(found: list[str]) -> None:
    seen: set[frozenset[tuple[str, ...]]] = set()
    equal = set()
    for place, text in enumerate(found):
        if shingles(text) and frozenset(shingles(text)) in seen:
            equal.add((0, place))
        seen.add(frozenset(shingles(text)))
    assert set(as_dict(found, closest_before(found, 1.0))) == equal


@settings(deadline=None)
@given(texts, thresholds, thresholds)
def test_a_higher_threshold_finds_fewer(found: list[str], one: float, other: float) -> None:
    low, high = sorted((one, other))
    lower = as_dict(found, closest_before(found, low))
    assert as_dict(found, closest_before(found, high)) == {
        text: value for text, value in lower.items() if value >= high
    }


def near(*found: str) -> Shares:
    return as_dict(list(found), closest_before(found))


def test_case_and_punctuation_do_not_count_and_lines_are_apart() -> None:
    assert near("The ferry left, at nine.", "the FERRY left at nine") == {(0, 1): 1.0}
    assert near("the ferry\nleft at nine", "the ferry left at nine") == {}
    assert near("one two three four five six", "zero one two three four five six") == {(0, 1): 0.8}


@pytest.mark.parametrize("jaccard", [0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(jaccard: float) -> None:
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        closest_before(["a"], jaccard)
