"""Python code without its comments and docstrings, as CodeBLEU compares it.

The standard `tokenize` would do, but it became another program in Python 3.12 (f-strings come in parts, more text is
refused), and a score must not depend on the interpreter. So the little that matters is read here, with the rules of
the tokenizer of Python 3.11: where strings, comments and logical lines begin and end, and which text it refuses.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

# What else a token is makes no difference.
INDENT, NEWLINE, STRING, COMMENT, OTHER = "indent", "newline", "string", "comment", "other"

_PREFIX = "(?i:br|rb|fr|rf|[bruf])?"
_TOKEN = re.compile(
    rf"""[ \f\t]*(?:
        (?P<joins>\\\r?\n)
      | (?P<comment>\#[^\r\n]*)
      | (?P<opens>{_PREFIX}(?P<quotes>\"\"\"|'''))
      | (?P<newline>\r?\n)
      | (?P<string>{_PREFIX}(?:'(?:\\[^\n]|[^\n'\\])*(?:'|\\\r?\n)|"(?:\\[^\n]|[^\n"\\])*(?:"|\\\r?\n)))
      | (?P<other>\w+|[^ \f\t])
    )""",
    re.VERBOSE,
)
# The rest of a string, up to the quotes that end it.
_REST = {quotes: re.compile(rf"(?:\\.|(?!{quotes})[^\\])*+{quotes}") for quotes in ("'", '"', "'''", '"""')}
_TAB = 8


class _Unreadable(ValueError):
    """The text ends within a string or a bracket, or goes back to an indentation that was never there."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: tuple[int, int]  # row and column, both from 0
    end: tuple[int, int]


def without_comments(code: str) -> str:
    """The code without comments, docstrings and blank lines; unchanged when it cannot be cut into tokens.

    A docstring is a string after the end of a line or after an indent; a string at the very start of a line goes as
    well, even inside brackets. Space between tokens becomes blanks, and lines joined by a backslash become one.
    """
    try:
        tokens = _Scanner().tokens(code)
    except _Unreadable:
        return code
    kept: list[str] = []
    before, row, column = INDENT, -1, 0
    for token in tokens:
        blanks = token.start[1] - (column if token.start[0] == row else 0)
        kept.append(" " * blanks)
        if not _is_dropped(token, before):
            kept.append(token.text)
        before, (row, column) = token.kind, token.end
    return "\n".join(line for line in "".join(kept).split("\n") if line.strip())


def _is_dropped(token: _Token, before: str) -> bool:
    if token.kind == STRING:
        return before in {INDENT, NEWLINE} or token.start[1] == 0
    return token.kind == COMMENT


class _Scanner:
    """Cuts a text into tokens, line by line."""

    def __init__(self) -> None:
        self._tokens: list[_Token] = []
        self._indents = [0]
        self._brackets = 0  # how many are open; less than 0 after one too many was closed
        self._joined = False  # by a backslash at the end of the line before
        # A string that goes on in the next line: its lines so far, where it starts, what ends it.
        self._open: list[str] = []
        self._start = (0, 0)
        self._rest = _REST["'"]
        self._needs_backslash = False  # without one at the end of the line the string is broken off

    def tokens(self, code: str) -> list[_Token]:
        """The tokens of a text; raises `_Unreadable`."""
        row, line = -1, ""
        for row, line in enumerate(io.StringIO(code)):
            column = self._line_start(row, line)
            if column is not None:
                self._tokens_of(row, line, column)
        if self._open or self._brackets or self._joined:
            raise _Unreadable
        if not line.endswith(("\r", "\n")) and not line.strip().startswith("#"):
            self._add(NEWLINE, "", row, len(line))
        return self._tokens

    def _add(self, kind: str, text: str, row: int, column: int) -> None:
        self._tokens.append(_Token(kind, text, (row, column), (row, column + len(text))))

    def _line_start(self, row: int, line: str) -> int | None:
        """Where the tokens of a line begin; None when nothing of it is left."""
        if self._open:
            return self._string_goes_on(row, line)
        if self._brackets or self._joined:
            self._joined = False
            return 0
        return self._indentation(row, line)

    def _string_goes_on(self, row: int, line: str) -> int | None:
        self._open.append(line)
        found = self._rest.match(line)
        if found:
            self._open[-1] = line[: found.end()]
            self._close(STRING, (row, found.end()))
            self._needs_backslash = False
            return found.end()
        if self._needs_backslash and not line.endswith(("\\\n", "\\\r\n")):
            self._close(OTHER, (row, len(line)))
        return None

    def _close(self, kind: str, end: tuple[int, int]) -> None:
        self._tokens.append(_Token(kind, "".join(self._open), self._start, end))
        self._open = []

    def _indentation(self, row: int, line: str) -> int | None:
        text = line.lstrip(" \f\t")
        column = len(line) - len(text)
        if not text:
            return None
        if text[0] in "#\r\n":
            comment = text.rstrip("\r\n") if text[0] == "#" else ""
            if comment:
                self._add(COMMENT, comment, row, column)
            self._add(OTHER, text[len(comment) :], row, column + len(comment))
            return None
        width = _width(line[:column])
        if width > self._indents[-1]:
            self._indents.append(width)
            self._add(INDENT, line[:column], row, 0)
        while width < self._indents[-1]:
            if width not in self._indents:
                raise _Unreadable
            self._indents.pop()
            self._add(OTHER, "", row, column)
        return column

    def _tokens_of(self, row: int, line: str, column: int) -> None:
        while found := _TOKEN.match(line, column):
            # `quotes` is inside `opens`, which is the last group to end.
            kind = str(found.lastgroup)
            start, column = found.span(kind)
            text = found[kind]
            if kind == "joins":
                self._joined = True
            elif kind == "opens":
                rest = _REST[found["quotes"]]
                ended = rest.match(line, column)
                if not ended:
                    self._open, self._start, self._rest = [line[start:]], (row, start), rest
                    return
                column = ended.end()
                self._add(STRING, line[start:column], row, start)
            elif kind == "string" and text.endswith("\n"):
                self._open, self._start, self._rest = [text], (row, start), _REST[text.lstrip("bBrRuUfF")[0]]
                self._needs_backslash = True
            else:
                self._brackets += (text in "([{") - (text in ")]}")
                self._add(self._kind(kind), text, row, start)

    def _kind(self, group: str) -> str:
        """The kind of a token; a line that ends inside brackets goes on."""
        return OTHER if group == "newline" and self._brackets > 0 else group


def _width(space: str) -> int:
    """How far a line is indented: tabs go to the next multiple of 8, a form feed starts again."""
    width = 0
    for character in space.rpartition("\f")[2]:
        width = (width // _TAB + 1) * _TAB if character == "\t" else width + 1
    return width
