"""Patterns over the columns of a row: `{subject}: {text}`, as text and nothing more.

What stands between braces is the name of a column, whatever it is made of, or a path into one (`{answers.text.0}`).
There are no formats, attributes or calls. A brace of its own is written twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_MARK = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Pattern:
    """Text before, between and behind fields, and the fields; there is one text more than there are fields."""

    texts: tuple[str, ...]
    fields: tuple[str, ...]

    def fill(self, row: Mapping[str, Any]) -> str:
        """The text of a row, without white space around it.

        Raises:
            KeyError: the row has no such column.
            TypeError: a column holds something that is no text.
        """
        values = (text_of(value_of(row, field), field) for field in self.fields)
        parts = [part for pair in zip(self.texts, values, strict=False) for part in pair]
        return "".join((*parts, self.texts[-1])).strip()


def pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises:
        ValueError: a brace stands alone, or a pair of braces names no column.
    """
    texts, fields, end = [""], [], 0
    for mark in _MARK.finditer(text):
        texts[-1] += text[end : mark.start()]
        end = mark.end()
        if mark.group() in {"{{", "}}"}:
            texts[-1] += mark.group()[0]
        elif mark.group(1):
            fields.append(mark.group(1))
            texts.append("")
        elif mark.group() == "{}":
            raise ValueError("{} names no column")
        else:
            raise ValueError(f"a single {mark.group()!r}; write {2 * mark.group()!r} for the brace itself")
    texts[-1] += text[end:]
    return Pattern(tuple(texts), tuple(fields))


def value_of(row: Mapping[str, Any], field: str) -> Any:
    """The value of a column, or of what a path leads to inside of one: keys of mappings, numbers of list items.

    Raises:
        KeyError: there is none.
    """
    if field in row:
        return row[field]
    found: Any = row
    for part in field.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise KeyError(field)
    return found


def text_of(value: Any, field: str) -> str:
    """A value as it stands in a text: numbers (without exponent) and truth values as in JSON, null as nothing.

    Raises:
        TypeError: the value is a list, a mapping, bytes, or a number that is none.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, list | dict):
        part = f"{{{field}.0}}" if isinstance(value, list) else f"{{{field}.KEY}}"
        raise TypeError(f"the column {field!r} holds a {type(value).__name__}; name a part of it: {part}")
    raise TypeError(f"the column {field!r} holds {value!r}, which is no text")
