"""YAML 1.2, so that `no`, `10:30` and `1e-5` mean what they say; a key that stands twice is an error."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from peftbench.errors import InvalidSpec


def parse_scalar(text: str) -> Any:
    """A value as YAML would read it: `1e-5`, `true`, `null`, `[1, 2]`."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise InvalidSpec(f"{text!r} is not a YAML value.", "Put it in quotes if it is text.") from error


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A mapping in YAML; `where` names it in errors.

    Raises:
        InvalidSpec: it is no YAML, holds a key twice, or is no mapping.
    """
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InvalidSpec(f"{where} holds a key twice (line {line}).", "Keep one of them.") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InvalidSpec(f"{where} is not YAML: {error.problem} (line {line}).", "Mend that line.") from None
    except YAMLError as error:
        raise InvalidSpec(f"{where} is not YAML: {str(error).splitlines()[0]}.", "Mend the file.") from None
    if not isinstance(data, dict):
        raise InvalidSpec(f"{where} holds no suite.", "It needs at least: tasks, models, methods")
    return data
