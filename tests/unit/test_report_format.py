"""Numbers as people read them."""

from __future__ import annotations

import pytest

from peftbench.report._format import (
    between,
    duration,
    extra_share,
    factor,
    line,
    listed,
    metric,
    percent,
    plain,
    plural,
    share_of,
    short_count,
    size,
    spread,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (252, "4 min 12 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024**2, "1.00 MiB"),
        (12.34 * 1024**3, "12.3 GiB"),
        (3e15, "2728 TiB"),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("part", "total", "text"),
    [
        (1, 3, "33.3 %"),
        (1, 30, "3.3 %"),
        (42, 100_000, "0.042 %"),
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 0, "–"),
        (None, 1, "–"),
    ],
)
def test_shares(part: float | None, total: float, text: str) -> None:
    assert share_of(part, total) == text


@pytest.mark.parametrize(
    ("extra", "base", "text"),
    [
        (84, 10_000, "+0.84 %"),
        (0, 10, "0 %"),
        (-12, 100, "−12.0 %"),
        (10, 10, "+100 %"),
        (None, 10, "–"),
        (1, None, "–"),
        (1, 0, "–"),
    ],
)
def test_what_is_added(extra: float | None, base: float | None, text: str) -> None:
    assert extra_share(extra, base) == text


def test_factors_and_constants() -> None:
    assert factor(0.9649) == "0.96"
    assert between([0.999, 0.931, 0.97]) == "0.93 to 1.00"
    assert between([0.999, 0.9951]) == "1.00"
    assert [metric(number, "B") for number in (94e9, 1.5e13, 250e6, 2e3, 12)] == [
        "94 GB",
        "15 TB",
        "250 MB",
        "2 kB",
        "12 B",
    ]


def test_counts_and_percentages() -> None:
    assert [short_count(number) for number in (None, 0, 999, 1280, 35_840, 1.5e9)] == [
        "–",
        "0",
        "999",
        "1.28k",
        "35.8k",
        "1.50B",
    ]
    assert [percent(None), percent(0.7812), spread(None), spread(0.0123)] == ["–", "78.1", "", "± 1.2"]
    assert [plural(1, "run"), plural(2000, "run")] == ["1 run", "2,000 runs"]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]


def test_foreign_text_neither_steers_a_terminal_nor_turns_around() -> None:
    assert plain("a\x1b[31m\u202eb\u200f\u2066\x00") == "a�[31m�b���"
    assert plain("two\nlines\tשלום") == "two\nlines\tשלום"
    assert line(" two\r\n lines ") == "two lines"
