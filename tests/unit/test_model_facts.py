"""What is found out about a model without loading it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench import hub
from peftbench.errors import MissingExtra, ModelProblem
from peftbench.models import _facts
from peftbench.models._facts import content_hash, embedded_names, find, gguf_file
from peftbench.models._roles import ARCHITECTURES

ROLES = {"query", "key", "value", "output", "up", "down", "norm", "gate"}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "max_position_embeddings": 64,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "vocab_size": 50,
}


def folder(path: Path, config: Any = LLAMA, **files: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in (files or {"model.safetensors": b"w"}).items():
        (path / name).write_bytes(content)
    return path


def test_a_folder_tells_its_facts(tmp_path: Path) -> None:
    facts = find(str(folder(tmp_path / "tiny")))
    assert (facts.name, facts.model_type, facts.context, facts.hidden_size) == ("tiny", "llama", 64, 8)
    assert (facts.layers, facts.vocabulary, facts.folder) == (2, 50, tmp_path / "tiny")
    assert facts.roles is ARCHITECTURES["llama"]
    assert facts.revision == content_hash(tmp_path / "tiny")


def test_a_name_is_that_of_the_folder_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "tiny")
    (tmp_path / "link").symlink_to(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path / "tiny")
    assert find(".") == find("../tiny") == find(f"{tmp_path}/tiny/") == find("../link")


def test_gpt2_names_its_sizes_otherwise(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_positions": 128, "n_embd": 12, "n_layer": 3, "vocab_size": 7}
    facts = find(str(folder(tmp_path / "g", config)))
    assert (facts.context, facts.hidden_size, facts.layers) == (128, 12, 3)


def test_the_revision_is_the_content(tmp_path: Path) -> None:
    one = folder(tmp_path / "one")
    before = content_hash(one)
    assert content_hash(folder(tmp_path / "two")) == before
    (one / "README.md").write_text("words")
    (one / "LICENSE.txt").write_text("words")
    (one / "generation_config.json").write_text("{}")
    assert content_hash(one) == before
    for name in (
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "tokenizer.model",
        "merges.txt",
        "modeling_x.py",
    ):
        (one / name).write_bytes(b"changed")
        assert content_hash(one) != before
        before = content_hash(one)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct (Q4_1, unpacked)"),
        ("packed.gguf", "packed (unpacked)"),
    ],
)
def test_a_packed_model_says_so_in_its_name(file: str, name: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "m", LLAMA, **{file: b"g"})
    assert find(str(path)).name == name
    assert gguf_file(path) == path / file
    (path / "model.safetensors").write_bytes(b"w")
    assert gguf_file(path) is None
    assert find(str(path)).name == "m"


def test_several_packed_models_are_not_guessed_between(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", LLAMA, **{"m.Q4_1.gguf": b"g", "m.Q8_0.gguf": b"g"})
    with pytest.raises(ModelProblem, match=r"several packed models: m.Q4_1.gguf, m.Q8_0.gguf. Keep the one"):
        find(str(path))


@pytest.mark.parametrize(
    ("config", "files", "words"),
    [
        ("{", {"model.safetensors": b""}, "cannot be read"),
        ("[]", {"model.safetensors": b""}, "names no model_type"),
        ("{}", {"model.safetensors": b""}, "names no model_type"),
        ({"model_type": "bert"}, {"model.safetensors": b""}, "of the family 'bert', which has no role map"),
        (LLAMA, {"pytorch_model.bin": b""}, "no weights as safetensors. Convert its .bin files"),
        (LLAMA, {"notes.md": b""}, "no weights as safetensors. Copy the"),
    ],
)
def test_folders_that_are_no_model(config: Any, files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelProblem) as caught:
        find(str(folder(tmp_path / "m", config, **files)))
    assert words in str(caught.value)
    assert caught.value.fix


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match=r"has no config.json. Name a folder saved with save_pretrained"):
        find(str(tmp_path))


@pytest.mark.parametrize("name", ["nowhere", "./nowhere/at", "/nowhere/at", "~/x", "a/b/c"])
def test_names_that_are_nothing(name: str) -> None:
    with pytest.raises(ModelProblem, match="There is no model") as caught:
        find(name)
    assert "hub id" in caught.value.fix


def test_embedded_models_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "made_up")
    monkeypatch.setattr(_facts, "files", lambda package: tmp_path)
    assert embedded_names() == ["made_up"]
    assert find("made_up").name == "made_up"
    with pytest.raises(ModelProblem, match="or: made_up"):
        find("other")


def test_every_embedded_model_is_whole() -> None:
    assert all(find(name).name == name for name in embedded_names())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_maps_the_roles(model_type: str) -> None:
    roles = ARCHITECTURES[model_type]
    assert ROLES - {"gate"} <= set(roles) <= ROLES
    assert all(layers and all(layers) for layers in roles.values())


# ---- the hub, without one ------------------------------------------------------------------------------------------


def on_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[str]) -> None:
    import huggingface_hub

    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.setattr(hub, "resolve", lambda kind, name, revision: f"commit of {revision}")
    monkeypatch.setattr(hub, "file_names", lambda kind, name, commit: files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file, revision: str(tmp_path / file))


def test_a_model_of_the_hub_has_no_folder_and_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_hub(monkeypatch, tmp_path, ["config.json", "model-00001-of-00002.safetensors"])
    facts = find("owner/name", "v1")
    assert (facts.name, facts.revision, facts.folder, facts.context) == ("owner/name", "commit of v1", None, 64)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["config.json", "pytorch_model.bin"], "no weights as safetensors"),
        (["model.safetensors"], "no config.json"),
        ([], "no config.json"),
    ],
)
def test_a_repository_that_is_no_model(
    files: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_hub(monkeypatch, tmp_path, files)
    with pytest.raises(ModelProblem, match=words) as caught:
        find("owner/name")
    assert caught.value.fix


def test_without_the_client_the_fix_is_a_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="hub"):
        find("owner/name")
