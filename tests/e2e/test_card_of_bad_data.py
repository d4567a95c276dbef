"""`show task` over everything that a run refuses: the same sentence, and never a traceback; in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from e2e import test_bad_input, test_own_data
from peftbench.cli import app
from peftbench.errors import UsageError

MIRRORED = ("missing column", "label", "empty split")


def refused(*arguments: str) -> str:
    """What is said, by an error that the command line prints as one sentence before it ends with 2."""
    result = CliRunner().invoke(app, ["show", "task", *arguments])
    assert isinstance(result.exception, UsageError), result.output
    return str(result.exception)


@pytest.mark.parametrize("case", test_own_data.CASES)
def test_rows_of_ones_own(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, words, remedy = test_own_data.CASES[case]
    test_own_data.whole(tmp_path)
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = refused("mine.yaml")
    assert words in said
    assert remedy in said


@pytest.mark.parametrize("case", MIRRORED)
def test_rows_of_a_mirror(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, words = test_bad_input.CASES[case]
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert words in refused("sst2", "--data-root", "data")


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Did you mean 'sst2'?" in refused("sst3")
    assert "There is no model 'tinny'" in refused("toy_mood", "--model", "tinny")
    assert "There is no folder nowhere. Check --data-root" in refused("sst2", "--data-root", "nowhere")


def test_whole_data_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table above could not fail if every command ended with an error."""
    test_own_data.whole(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["show", "task", "mine.yaml"])
    assert result.exit_code == 0, result.output
    assert "train.jsonl, row 1" in result.output
    assert "Invented" not in result.output
