"""YAML as settings are written in: what it means, and that whatever is wrong with it is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.errors import InvalidSpec
from peftbench.strict_yaml import parse_scalar, parse_yaml, read_yaml

BROKEN = {
    "whole number": "!!int abc",
    "whole number of nothing": "!!int ''",
    "truth": "!!bool x",
    "number": "!!float x",
    "tag": "!mine x",
    "long number": "9" * 5000,
    "lists": "[" * 3000,
    "mappings": "{" * 3000,
    "half a character": "'\ud83d'",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_value_is_a_sentence(case: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a YAML value") as scalar:
        parse_scalar(BROKEN[case])
    with pytest.raises(InvalidSpec, match=r"^mine\.yaml is not YAML: ") as whole:
        parse_yaml(f"a: {BROKEN[case]}", "mine.yaml")
    for caught in (scalar, whole):
        assert caught.value.fix
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["2024-02-29", "2024-02-30", "2024-02-29 12:30:00", "10:30", "no"])
def test_yaml_1_2_has_no_dates(text: str) -> None:
    assert parse_scalar(text) == text
    assert parse_yaml(f"citation: {text}", "x") == {"citation": text}


@pytest.mark.parametrize("name", ["x" * 300, ".", "closed/x.yaml"])
def test_a_file_that_cannot_be_read_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="cannot be read"):
        read_yaml(tmp_path / name)
