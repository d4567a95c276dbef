"""Numbers as people read them."""

from __future__ import annotations

import pytest

from peftbench.report._format import duration, line, listed, percent, plain, plural, share_of, short_count, size, spread


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
