"""Near duplicates: the fast search finds what comparing every pair finds, and no more."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import combinations
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peftbench import near_duplicates
from peftbench.near_duplicates import JACCARD, WORDS, Pair, similar_pairs

# Few words and few lines, so that many shingles are shared.
phrases = st.lists(st.sampled_from(["a", "B", "b", "c!", "Straße", "7"]), max_size=9).map(" ".join)
texts = st.lists(st.lists(phrases, max_size=3).map("\n".join), max_size=14)
any_texts = st.lists(st.text(max_size=12), max_size=8)
thresholds = st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, JACCARD, 0.9, 1.0]) | st.floats(0.01, 1)


def shingles(text: str) -> set[tuple[str, ...]]:
    found = set()
    for line in text.splitlines():
        words = re.findall(r"\w+", line.casefold())
        found |= {tuple(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))} - {()}
    return found


def share(one: str, other: str) -> Fraction:
    left, right = shingles(one), shingles(other)
    return Fraction(len(left & right), len(left | right)) if left or right else Fraction(0)


def as_dict(pairs: list[Pair]) -> dict[tuple[int, int], float]:
    places = [(pair.first, pair.second) for pair in pairs]
    assert places == sorted(set(places)), "sorted, and each once"
    return {(pair.first, pair.second): pair.jaccard for pair in pairs}


def every_pair(found: list[str], jaccard: float) -> dict[tuple[int, int], float]:
    shares = {(i, j): float(share(found[i], found[j])) for i, j in combinations(range(len(found)), 2)}
    return {pair: value for pair, value in shares.items() if value >= jaccard}


@given(texts | any_texts, thresholds)
@example([], 0.5)
@example(["", " . ", "\n\n"], 0.5)
@example(["a b c d e", "a b c d e", "A, b c; d e"], 1.0)
def test_found_is_what_comparing_every_pair_finds(found: list[str], jaccard: float) -> None:
    assert as_dict(similar_pairs(found, jaccard)) == every_pair(found, jaccard)


@pytest.mark.parametrize("chunk", [1, 5])
@given(found=texts, jaccard=thresholds)
def test_the_size_of_the_chunks_changes_nothing(chunk: int, found: list[str], jaccard: float) -> None:
    with patch.object(near_duplicates, "_CHUNK", chunk):
        assert as_dict(similar_pairs(found, jaccard)) == every_pair(found, jaccard)


@given(texts, thresholds, st.data())
def test_texts_of_one_group_are_not_compared(found: list[str], jaccard: float, data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found)))
    wanted = {pair: value for pair, value in every_pair(found, jaccard).items() if groups[pair[0]] != groups[pair[1]]}
    assert as_dict(similar_pairs(found, jaccard, groups)) == wanted


@given(texts, thresholds, st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(found: list[str], jaccard: float, random: Random) -> None:
    order = list(range(len(found)))
    random.shuffle(order)
    turned = as_dict(similar_pairs([found[place] for place in order], jaccard))
    back = {tuple(sorted((order[i], order[j]))): value for (i, j), value in turned.items()}
    assert back == as_dict(similar_pairs(found, jaccard))


@given(texts)
def test_wholly_alike_are_equal_sets(found: list[str]) -> None:
    equal = {
        (i, j)
        for i, j in combinations(range(len(found)), 2)
        if shingles(found[i]) and shingles(found[i]) == shingles(found[j])
    }
    assert set(as_dict(similar_pairs(found, 1.0))) == equal


@given(texts, thresholds, thresholds)
def test_a_higher_threshold_finds_fewer(found: list[str], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert as_dict(similar_pairs(found, high)).items() <= as_dict(similar_pairs(found, low)).items()


def test_case_and_punctuation_do_not_count_and_lines_are_apart() -> None:
    assert as_dict(similar_pairs(["The ferry left, at nine.", "the FERRY left at nine"])) == {(0, 1): 1.0}
    assert as_dict(similar_pairs(["the ferry\nleft at nine", "the ferry left at nine"])) == {}
    assert as_dict(similar_pairs(["one two three four five six", "zero one two three four five six"])) == {(0, 1): 0.8}


@pytest.mark.parametrize("jaccard", [0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(jaccard: float) -> None:
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        similar_pairs(["a"], jaccard)
