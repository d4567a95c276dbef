"""Answers: what the data give as one, and readers from the text a model wrote to one, or None where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property


class NoAnswer(ValueError):
    """The right answer of a row is not known: public test sets hide it, as the label -1 or as nothing at all."""


def given(answer: str | None) -> str:
    """The answer of a row, without the white space around it.

    Raises:
        NoAnswer: there is none.
    """
    if answer is None or not answer.strip():
        raise NoAnswer
    return answer.strip()


_EDGES = " \t\r\n.,;:!?\"'`*()[]"
_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")


@cache
def choice(*words: str) -> Callable[[str], str | None]:
    """A reader of one of a few answers: the first line begins with the word, whatever case and punctuation around it.

    `Yes.` and `1: the toilet filled` are read; `not positive` and `positive or negative` are not: an answer begins with
    one word of the choice and names no other.
    """
    known = {word.casefold(): word for word in words}
    longest_first = sorted(known, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def read(text: str) -> str | None:
        line = next(iter(text.strip().splitlines()), "").lstrip(_EDGES).casefold()
        first = pattern.match(line)
        if first is None or set(pattern.findall(line)) != {first.group()}:
            return None
        return known[first.group()]

    return read


def letter(letters: str) -> Callable[[str], str | None]:
    """A reader of one of a few capital letters: the first line begins with it and nothing but a mark follows directly.

    `B`, `(b)`, `B. the lake` and `B: the lake` are read; `A lake` is not, for an article is not an answer.
    """
    pattern = re.compile(rf"[\s\"'`*(\[]*([{letters}])(?:[)\].:,;*\"'`]|\s*$)", re.IGNORECASE)

    def read(text: str) -> str | None:
        first = pattern.match(next(iter(text.strip().splitlines()), ""))
        return first.group(1).upper() if first else None

    return read


def first_line(text: str) -> str | None:
    """Reads the first line as it is, without the white space around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def code(text: str) -> str | None:
    """Reads a program: what stands in the first fence, all of the text when there is none."""
    fenced = _FENCE.search(text)
    return (fenced.group(1).strip("\n").rstrip() if fenced else text.strip()) or None


@dataclass(frozen=True)
class Labels:
    """The classes of a data set: their names in the order of their numbers, and the words a model answers with."""

    names: tuple[str, ...]
    words: tuple[str, ...]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The numbers data may hold for the classes: their places from 0 on, or their names where all are numerals."""
        numerals = all(name.isdecimal() for name in self.names)
        return tuple(map(int, self.names)) if numerals else tuple(range(len(self.names)))

    def word(self, value: object) -> str:
        """The word of a class given by number or by name.

        Raises:
            NoAnswer: the class is -1 or missing, as where a test set hides it.
            ValueError: the class is not declared.
        """
        if value in (-1, "-1", "", None):
            raise NoAnswer
        if isinstance(value, bool):
            value = str(value)
        if isinstance(value, int) and value in self.numbers:
            return self.words[self.numbers.index(value)]
        if isinstance(value, str) and value in self.names:
            return self.words[self.names.index(value)]
        declared = ", ".join(f"{number} or {name!r}" for number, name in zip(self.numbers, self.names, strict=True))
        raise ValueError(f"the label {value!r} is not declared ({declared})")

    def options(self, texts: Sequence[str]) -> str:
        """Texts under one another, each behind the word of its class.

        Raises:
            ValueError: there are more or fewer texts than classes.
        """
        if len(texts) != len(self.words):
            raise ValueError(f"there are {len(texts)} options, not {len(self.words)}")
        return "\n".join(f"{word}: {text.strip()}" for word, text in zip(self.words, texts, strict=True))

    def read(self, text: str) -> str | None:
        """The word a text stands for, None when it is none of them."""
        return choice(*self.words)(text)


def number(text: str) -> str | None:
    """Reads a text that is a number and nothing else, as a plain decimal."""
    match = _NUMBER.fullmatch(text.strip(_EDGES.replace(".", "") + "$%").removesuffix("."))
    return _plain(match.group()) if match else None


def number_within(low: float, high: float) -> Callable[[str], str | None]:
    """A reader of a number on a scale, on the first line; one outside of the scale is no answer."""

    def read(text: str) -> str | None:
        found = number(first_line(text) or "")
        return found if found is not None and low <= float(found) <= high else None

    return read


def number_after(marker: str) -> Callable[[str], str | None]:
    """A reader of the number behind the last `marker`, up to the end of its line."""

    def read(text: str) -> str | None:
        _, found, rest = text.rpartition(marker)
        lines = rest.strip().splitlines()
        return number(lines[0]) if found and lines else None

    return read


def _plain(text: str) -> str:
    """Without exponent, plus sign or idle zeros; every digit is kept, however many there are."""
    value = Decimal(text.replace(",", ""))
    digits = format(value, "f")
    plain = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return plain if value else "0"
