"""One seed, many streams: different from one another, the same for ever."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest

from peftbench.seeding import Stream, rng, stream_seed

STREAMS: tuple[Stream, ...] = get_args(Stream)
GOLDEN: dict[Stream, int] = {
    "split": 8290135586570246838,
    "order": 7232416803920797430,
    "init": 5327923130014936142,
    "dropout": 5036994933701043806,
    "sample": 3774639179557496799,
    "shots": 2077655402881485897,
}


def test_golden_numbers() -> None:
    # When these change, every result changes: raise NUMERICS in spec.py with them.
    assert {stream: stream_seed(1, stream) for stream in STREAMS} == GOLDEN
    assert [rng(1, stream).randrange(1000) for stream in ("order", "split")] == [81, 831]


def test_streams_and_seeds_differ() -> None:
    drawn = {(seed, stream): stream_seed(seed, stream) for seed in range(-50, 50) for stream in STREAMS}
    assert len(set(drawn.values())) == len(drawn)
    assert all(0 <= value < 2**63 for value in drawn.values())


@pytest.mark.parametrize(("one", "other"), list(combinations(STREAMS, 2)))
def test_a_stream_does_not_notice_another(one: Stream, other: Stream) -> None:
    alone = [rng(5, one).random() for _ in range(3)]
    first, second = rng(5, one), rng(5, other)
    mixed: list[float] = []
    for _ in range(3):
        second.random()
        mixed.append(rng(5, one).random())
    assert mixed == alone
    assert [first.random() for _ in range(3)] != [second.random() for _ in range(3)]
