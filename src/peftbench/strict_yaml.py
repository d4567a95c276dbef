"""YAML 1.2, so that `no`, `10:30` and `1e-5` mean what they say; a key that stands twice is an error.

A date is a text: YAML 1.2 has none, and neither has JSON, in which settings are kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from peftbench.errors import InvalidSpec

# As much of a broken value as is shown.
_SHOWN = 60


class _Constructor(SafeConstructor):
    """Values of YAML, without dates."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _load(text: str) -> Any:
    """What a text holds.

    Raises:
        YAMLError: it is no YAML, or a value is not what its tag says, too long or nested too deeply.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text)
    except RecursionError:
        raise YAMLError("it is nested too deeply") from None
    except (ValueError, LookupError) as error:
        raise YAMLError(f"a value cannot be read: {error}") from error


def parse_scalar(text: str) -> Any:
    """A value as YAML would read it: `1e-5`, `true`, `null`, `[1, 2]`."""
    try:
        return _load(text)
    except YAMLError as error:
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        raise InvalidSpec(f"{shown!r} is not a YAML value.", "Put it in quotes if it is text.") from error


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A mapping in YAML; `where` names it in errors.

    Raises:
        InvalidSpec: it is no YAML, holds a key twice, or is no mapping.
    """
    try:
        data = _load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InvalidSpec(f"{where} holds a key twice (line {line}).", "Keep one of them.") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InvalidSpec(f"{where} is not YAML: {error.problem} (line {line}).", "Mend that line.") from None
    except YAMLError as error:
        raise InvalidSpec(f"{where} is not YAML: {str(error).splitlines()[0]}.", "Mend the file.") from None
    if not isinstance(data, dict):
        raise InvalidSpec(f"{where} holds no settings.", "Write one on each line, as: key: value")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping in a YAML file in UTF-8.

    Raises:
        InvalidSpec: the file cannot be read, or see `parse_yaml`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{path} cannot be read: {error}.", "Give the path of a YAML file in UTF-8.") from error
    return parse_yaml(text, str(path))


def yaml_text(data: Mapping[str, Any]) -> str:
    """Settings as `parse_yaml` reads them, in their order."""
    yaml = YAML()
    # A text stays in one line, so that it can be compared with where it came from.
    yaml.width = 2**20
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_quoted(dict(data)), stream)
    return stream.getvalue()


def _quoted(value: Any) -> Any:
    """In quotes where a text holds the one line end that would be read back as a space (next line, U+0085)."""
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_quoted(item) for item in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) and "\x85" in value else value
