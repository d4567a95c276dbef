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


_FENCE = re.compile(r"^([ \t]*)(`{3,})([^`\n]*)$", re.MULTILINE)
_IN_LINE = re.compile(r"(`+)([^`\n]+)\1")
_THOUGHT = re.compile(r"\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
# Marks that stand around an answer and are none of it; a dash is one where a text behind it is a list's item.
_EDGES = " \t\r\n.,;:!?\"'`*()[]"
_AROUND = rf"[\s{re.escape(_EDGES)}_“”‘’«»]"
_LEAD = (
    rf"(?:{_AROUND}|[-–•](?=\s)(?!\s*\d))*?"
    rf"(?:(?:the\s+)?(?:(?:right|correct|best|final)\s+)?answer[*_]*\s*(?::|is\b){_AROUND}*?)?"
)
_CLOSING = r"[\"'“”’»*_`]*+"
# What may follow a word that is an answer: nothing, a mark, a dash between spaces, a bracket, a reason.
_BEHIND = (
    rf"(?={_CLOSING}(?:{_AROUND}*+$|[:;!?,)\]](?!\d)|\.(?!\w)|—|\s+[-–—]+\s+(?!\d)|\s+\(|\s+(?:because|since|as)\b))"
)
_OPTION = re.compile(rf"{_CLOSING}([:.)]){_CLOSING}\s")
_LISTED = re.compile(r"(?:[,;/|]|\b(?:or|and))\s*\Z", re.IGNORECASE)
_MONEY = r"\\?[$€£¥]"
# A sign stands before or behind that of a currency; U+2212 is a minus too.
_NUMBER = (
    rf"(?:{_MONEY}\s?(?P<sign>[-+\u2212])?|(?P<minus>[-+\u2212])?(?:{_MONEY}\s?)?)"
    rf"(?P<digits>(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+)(?:\s?(?:%|{_MONEY}))?"
)
_ALONE = re.compile(rf"{_LEAD}{_NUMBER}[\s.,*_]*+(?:\([^()\d]*\))?{_AROUND}*+", re.IGNORECASE)
_SOME = re.compile(rf"{_AROUND}*?{_NUMBER}")
# Behind a number: a calculation goes on; or the number ends, and is the only one.
_GOES_ON = re.compile(rf"\s*[-+\u2212*/×÷x^=]\s*{_MONEY}?[\d(.]")
_ENDS = re.compile(
    rf"{_CLOSING}(?:{_AROUND}*+$|[,:;](?!\s*\d)|\.(?!\d)|[!?)\]]|[^\W\d_]{{2}}"
    r"|\s+(?!(?:or|and|to)\b)[^\s\d+\u2212*/×÷^=-])"
)
_LINE = re.compile(".*")


def said(text: str) -> str:
    """What a model answered, without the thought before it: nothing, where the thought does not end."""
    thought = _THOUGHT.match(text)
    return text[thought.end() :] if thought else text


@cache
def choice(*words: str) -> Callable[[str], str | None]:
    """A reader of one of a few answers: the first line is the word, or begins with it and a mark, and names no other.

    `Yes.`, `"B"`, `- no`, `Answer: yes`, `No, it does not` and `yes because` are read, in any case; `no idea`,
    `A lake`, `positive or negative`, `A, B, C or D` and `not positive` are not. Behind a letter or a numeral that
    stands for an option, as in `2: one cup`, everything is the text of that option, up to the mark of another one.
    """
    known = {spelling: word for word in words for spelling in (word.casefold(), word)}
    spellings = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    first = re.compile(rf"{_LEAD}({spellings})(?![^\W_]){_BEHIND}", re.IGNORECASE)
    # An `a` before a word is an article.
    article = r"(?!(?-i:a)\s+[^\W\d_])" if "a" in known else ""
    named = re.compile(rf"(?<![^\W_])(?<![^\W_]['’]){article}({spellings})(?![^\W_])", re.IGNORECASE)

    def read(text: str) -> str | None:
        line = first_line(text) or ""
        found = first.match(line)
        if found is None or (found[1].isdecimal() and line[: found.start(1)].endswith((".", ","))):
            return None
        word = known.get(found[1].casefold())
        others = (other for other in named.finditer(line, found.end()) if known.get(other[1].casefold()) != word)
        option = _OPTION.match(line, found.end()) if len(found[1]) == 1 or found[1].isdecimal() else None
        if option is not None:
            others = (other for other in others if _is_shown(line, other, option[1]))
        return word if next(others, None) is None else None

    return read


def _is_shown(line: str, found: re.Match[str], mark: str) -> bool:
    """Whether an option begins there with the mark of the one before: texts have a `Step 2:` and a `drive d:`, too."""
    option = _OPTION.match(line + " ", found.end())
    listed = found[1].isupper() or _LISTED.search(line[: found.start()][-8:]) is not None
    return listed and option is not None and option[1] == mark


def first_line(text: str) -> str | None:
    """Reads the first line as it is, without the white space around it."""
    return next((line.strip() for line in said(text).splitlines() if line.strip()), None)


def whole(text: str) -> str | None:
    """Reads all of a text, without the white space around it."""
    return said(text).strip() or None


def code(text: str) -> str | None:
    """Reads a program: what stands in the first fence, all of the text when there is none.

    Both fences stand on a line of their own, whatever space before them, and outside of strings of several lines.
    A fence that is never closed holds the rest; where there is no rest, it closes what stands before it.
    """
    text = said(text)
    opening = next((fence for fence in _FENCE.finditer(text) if _is_outside(text[: fence.start()])), None)
    if opening is None:
        alone = _IN_LINE.fullmatch(text.strip())
        return (alone[2] if alone else text).strip() or None
    marks = (fence for fence in _FENCE.finditer(text, opening.end()) if fence[2].startswith(opening[2]))
    closings = [fence.start() for fence in marks if not fence[3].strip()]
    end = next((place for place in closings if _is_outside(text[opening.end() : place])), min(closings, default=None))
    body = text[opening.end() : end]
    if end is None and not body.strip():
        body = text[: opening.start()]
    # As in Markdown, lines are as far from the margin as their fence is.
    body = re.sub(rf"^[ \t]{{1,{len(opening[1])}}}", "", body, flags=re.MULTILINE) if opening[1] else body
    return body.strip("\n").rstrip() or None


def _is_outside(program: str) -> bool:
    """Whether no string of several lines is open at the end of a program."""
    return not any(program.count(quotes) % 2 for quotes in ('"""', "'''"))


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
    """Reads a text that is a number and nothing else, as a plain decimal; a remark in brackets may stand behind it."""
    match = _ALONE.fullmatch(said(text))
    return _plain(match) if match else None


def number_within(low: float, high: float) -> Callable[[str], str | None]:
    """A reader of a number on a scale, on the first line; one outside of the scale is no answer."""

    def read(text: str) -> str | None:
        found = number(first_line(text) or "")
        return found if found is not None and low <= float(found) <= high else None

    return read


def number_after(marker: str) -> Callable[[str], str | None]:
    """A reader of the number directly behind a `marker`, on its line: the first there is.

    A word may stand behind the number, `18 dollars`. A mark with none behind it is passed over, and so is one with a
    calculation, `= 8 - 3`; where it is not clear which number is meant, `18 or 19`, there is no answer.
    """
    marks = re.compile(f"(?={re.escape(marker)})")

    def read(text: str) -> str | None:
        text = said(text)
        for mark in marks.finditer(text):
            line = _LINE.match(text, mark.start() + len(marker))
            found = line and _SOME.match(text, line.start(), line.end())
            if found and not _GOES_ON.match(text, found.end(), found.endpos):
                return _plain(found) if _ENDS.match(text, found.end(), found.endpos) else None
        return None

    return read


def _plain(number: re.Match[str]) -> str:
    """Without exponent, plus sign or idle zeros; every digit is kept, however many there are."""
    value = Decimal(number["digits"].replace(",", ""))
    digits = format(value, "f")
    plain = digits.rstrip("0").rstrip(".") if "." in digits else digits
    negative = (number["sign"] or number["minus"]) in {"-", "\u2212"}
    return ("-" * negative + plain) if value else "0"
