"""What the page on the library's own tuners says is what its scripts print, by themselves, on this machine."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from peft import PeftType

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "peft-tuners.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"<summary>(\w+): (\S+)</summary>\n\n```python measured\n(.*?)```", re.DOTALL)


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("write_peft_tuners", ROOT / "scripts" / "write_peft_tuners.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


writer = loaded()


def shown() -> list[tuple[str, str, float, str]]:
    """Every fault of the page: question, tuner, figure and script."""
    found = []
    for question, title in writer.FAULTS.items():
        _, _, rest = PAGE.partition(f"### {title}\n")
        section = rest.partition("\n### ")[0]
        found += [(question, tuner, float(figure), text) for tuner, figure, text in SHOWN.findall(section)]
    return found


# One that every prompt has, and one that is the tuner's alone.
SAMPLE = {("padding", "PROMPT_TUNING"), ("causal", "LILY")}


@pytest.mark.parametrize(
    ("question", "tuner", "figure", "text"),
    [pytest.param(*one, id="-".join(one[:2]), marks=() if one[:2] in SAMPLE else pytest.mark.slow) for one in shown()],
)
def test_a_script_shows_its_fault(question: Any, tuner: str, figure: float, text: str) -> None:
    found = writer.run(text)
    assert found.difference == pytest.approx(figure, rel=0.1)
    assert writer.is_fault(tuner, question, found)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", writer.CONFIGS)
def test_all_else_is_as_the_page_says(tuner: str) -> None:
    (row,) = re.findall(rf"^\| {tuner} \| .*$", PAGE, re.MULTILINE)
    cells = [cell.strip() for cell in row.split("|")[3:-1]]
    for cell, question in zip(cells, writer.COMPARED, strict=True):
        found = writer.run(writer.script(tuner, question))
        assert (cell == "–") == (found.difference is None), question
        assert cell.startswith("**") == writer.is_fault(tuner, question, found), question


def test_every_tuner_has_a_row() -> None:
    assert set(re.findall(r"^\| ([A-Z0-9_]+) \|", PAGE, re.MULTILINE)) == {kind.value for kind in PeftType}
    assert set(writer.CONFIGS) | set(writer.UNTRIED) == {kind.value for kind in PeftType}


def test_every_fault_has_its_script() -> None:
    bold = sum(line.count("**") // 2 for line in PAGE.splitlines() if line.startswith("| "))
    assert bold == len(shown()) > 20
    assert all(text == writer.script(tuner, question) for question, tuner, _, text in shown())
    assert max(len(text.splitlines()) for *_, text in shown()) <= 24


@pytest.mark.parametrize("library", ["transformers", "peft"])
def test_versions_stand_on_the_page(library: str) -> None:
    assert f"{library} {version(library)}" in PAGE, "run scripts/write_peft_tuners.py"
