"""Models whose files are broken are one sentence and a fix, and nothing is made up for what they lack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from peftbench.errors import ModelProblem
from peftbench.models._chat import Chat
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel, load
from peftbench.models._tokenizer import chat_of
from peftbench.spec import ModelRef

TINY = Path(str(files("peftbench.models") / "tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a small model, to be broken."""
    return Path(shutil.copytree(TINY, tmp_path / "mine"))


def loaded(folder: Path) -> LoadedModel:
    facts = find(str(folder))
    return load(ModelRef(name=str(folder), revision=facts.revision), facts, torch.device("cpu"))


def speaks(folder: Path) -> Chat:
    return chat_of(find(str(folder)))


def told(question: Callable[[Path], object], folder: Path) -> str:
    """What is said of a folder: one sentence and a fix, and nothing about the hub, which was not asked."""
    with pytest.raises(ModelProblem) as caught:
        question(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.message.endswith(".")
    assert str(folder) in caught.value.fix
    assert "hub" not in str(caught.value)
    assert "local folder" not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize("question", [loaded, speaks])
def test_a_broken_chat_template_is_one_sentence(question: Callable[[Path], object], folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% if %}", encoding="utf-8")
    assert "The chat template of " in (said := told(question, folder))
    assert said.endswith("cannot be used: Expected an expression, got 'end of statement block'.")


@pytest.mark.parametrize("question", [loaded, speaks])
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '{"version": "1.0", "model": 5}',
        json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": 5}}),
        "",
    ],
    ids=["cut", "deep", "other", "shape", "empty"],
)
def test_a_broken_tokenizer_is_one_sentence(question: Callable[[Path], object], text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    assert f" cannot be {'loaded' if question is loaded else 'read'}: " in told(question, folder)


@pytest.mark.parametrize("question", [loaded, speaks])
def test_a_library_without_words_is_one_sentence(
    question: Callable[[Path], object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fails)
    assert told(question, folder).endswith(": AssertionError.")


def test_weights_that_were_cut_are_one_sentence(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded: Error while deserializing header" in told(loaded, folder)
