"""Models whose files are broken are one sentence and a fix, and nothing is made up for what they lack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from peftbench.errors import MissingExtra, ModelProblem
from peftbench.models._chat import Chat
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel, load
from peftbench.models._roles import ARCHITECTURES
from peftbench.models._tokenizer import chat_of
from peftbench.spec import ModelRef, Quantization
from peftbench.testing.models import save_tiny

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


def test_a_model_without_a_tokenizer_is_one_sentence(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert ":." not in told(loaded, folder)


def test_weights_that_were_cut_are_one_sentence(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded: Error while deserializing header" in told(loaded, folder)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("layers.0.self_attn.q_proj", "lack 1 of its tensors, such as model.layers.0.self_attn.q_proj.weight"),
        ("layers.0.", "lack 9 of its tensors, such as model.layers.0.input_layernorm.weight"),
        ("embed_tokens", "such as "),
        ("model.norm", "lack 1 of its tensors, such as model.norm.weight"),
    ],
)
def test_weights_that_lack_are_not_made_up(lacking: str, words: str, folder: Path) -> None:
    def leave_away(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if lacking in name]:
            del weights[name]

    rewrite(folder, leave_away)
    with pytest.raises(ModelProblem) as caught:
        loaded(folder)
    assert words in caught.value.message
    assert caught.value.fix


def test_weights_of_another_shape_are_not_made_up(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(folder, lambda weights: weights.update({name: weights[name][:8].contiguous()}))
    with pytest.raises(ModelProblem, match=rf" {name} has the shape \(8, \d+\), not \(\d+, \d+\) \(.*: 1\)"):
        loaded(folder)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "not tied"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_whole_models_of_every_architecture_load(model_type: str, tied: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A head that is tied to the embeddings is in no file; nor are buffers, such as masks."""
    path = save_tiny(model_type, tmp_path / "m")
    config = AutoConfig.from_pretrained(path)
    config.tie_word_embeddings = tied
    before = AutoModelForCausalLM.from_config(config)
    before.save_pretrained(path)
    after = loaded(path).model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.state_dict().items())


@pytest.mark.parametrize(("quantization", "package"), [("nf4", "bitsandbytes"), ("int8", "torchao")])
def test_what_packs_weights_has_to_be_there(
    quantization: Quantization, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peftbench.models._quantization.importlib.util.find_spec", lambda name: None)
    facts = find("tiny")
    ref = ModelRef(name=facts.name, revision=facts.revision, quantization=quantization)
    with pytest.raises(MissingExtra, match=f"needs the package {package}") as caught:
        load(ref, facts, torch.device("cpu"))
    assert f"'peftbench[{package}]'" in caught.value.fix


@pytest.mark.shared
@pytest.mark.parametrize("name", ["stories15m-llama2", "stories260k-llama2"])
def test_real_models_are_whole(name: str, shared: Path) -> None:
    assert loaded(shared / "models" / name).parameters > 0
