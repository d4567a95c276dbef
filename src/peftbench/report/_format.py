"""Numbers and names as people read them: percentages, bytes, durations, and foreign text made harmless."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

ABSENT = "–"
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
# Line breaks and tabs are the only control characters with a meaning in a message.
_KEPT = "\n\t"


def percent(share: float | None) -> str:
    """A share as a percentage without the sign: 0.781 is `78.1`."""
    return ABSENT if share is None else f"{100 * share:.1f}"


def spread(share: float | None) -> str:
    """A standard deviation of shares: `± 1.2`, nothing when there is none."""
    return "" if share is None else f"± {100 * share:.1f}"


def whole(number: float | None) -> str:
    """A count with groups of three digits."""
    return ABSENT if number is None else f"{number:,.0f}"


def short_count(number: float | None) -> str:
    """A count in at most five characters: `1.28M`, `35.8k`."""
    if number is None:
        return ABSENT
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{_three_digits(number / limit)}{unit}"
    return f"{number:.0f}"


def share_of(part: float | None, total: float | None) -> str:
    """A part of a total in percent, with at least two digits that mean something: `0.042 %`."""
    if part is None or not total:
        return ABSENT
    value = 100 * part / total
    return f"{value:.0f} %" if value in {0.0, 100.0} else f"{_significant(value)} %"


def extra_share(extra: float | None, base: float | None) -> str:
    """What is added to a base, in percent of it: `+0.84 %`, `0 %` for nothing, `−12.0 %` for what is saved."""
    share = share_of(None if extra is None else abs(extra), base)
    if not extra or share == ABSENT:
        return share
    return f"{'+' if extra > 0 else '−'}{share}"


def factor(share: float) -> str:
    """What is left of a whole: `0.97`."""
    return f"{share:.2f}"


def between(shares: Sequence[float]) -> str:
    """The range of some factors: `0.97 to 1.00`, or the one they all are to two digits."""
    low, high = factor(min(shares)), factor(max(shares))
    return low if low == high else f"{low} to {high}"


def metric(number: float, unit: str) -> str:
    """A number with a decimal prefix before its unit: `94 GB`, `10 TFLOPs`."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}"


def size(count: float | None) -> str:
    """Bytes in the largest binary unit that leaves a number of at least one."""
    if count is None:
        return ABSENT
    number, unit = count, 0
    while number >= 999.5 and unit < len(_BINARY) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} B" if unit == 0 else f"{_three_digits(number)} {_BINARY[unit]}"


def duration(seconds: float | None) -> str:
    """A time to two parts: `0.8 s`, `4 min 12 s`, `1 h 02 min`."""
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`, `1,024 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plain(text: str) -> str:
    """Text without control characters and without marks that turn the direction of what follows."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(char) else char for char in text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """`plain` text on one line."""
    return " ".join(plain(text).split())


def _steers(char: str) -> bool:
    return char not in _KEPT and (
        unicodedata.category(char) in {"Cc", "Cs"}
        or unicodedata.bidirectional(char) in _TURNS
        or char in "\u200e\u200f\u061c"
    )


_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def _significant(value: float) -> str:
    """Two digits that mean something, one of them behind the point; never a power of ten."""
    digits = next((count for count in range(1, 9) if value >= 10 ** (1 - count)), 9)
    return f"{value:.{digits}f}"
