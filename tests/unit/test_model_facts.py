"""What is found out about a model without loading it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench import hub
from peftbench.errors import DataProblem, MissingExtra, ModelProblem
from peftbench.mirror import LOCK, Lock, Locked, Sum, checksum, write_lock
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


PARTS = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": PARTS[1], "b": PARTS[2], "c": PARTS[1]}}).encode()


def folder(path: Path, config: Any = LLAMA, **files: bytes) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name, content in (files or {"model.safetensors": b"w"}).items():
        (path / name).write_bytes(content)
    return path


def test_a_folder_tells_its_facts(tmp_path: Path) -> None:
    facts = find(str(folder(tmp_path / "tiny")))
    assert (facts.name, facts.model_type, facts.context, facts.hidden_size) == ("tiny", "llama", 64, 8)
    assert (facts.shapes.layers, facts.shapes.vocabulary, facts.folder) == (2, 50, tmp_path / "tiny")
    assert facts.roles is ARCHITECTURES["llama"]
    assert facts.revision == content_hash(tmp_path / "tiny")


def test_weights_that_are_packed_in_the_files_are_refused(tmp_path: Path) -> None:
    """What is counted, frozen and set aside goes by the quantisation that a suite asks for."""
    how = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with pytest.raises(ModelProblem, match=r"packed in its files \(quantization_config\)") as caught:
        find(str(folder(tmp_path / "m", {**LLAMA, "quantization_config": how})))
    assert "quantization: nf4" in caught.value.fix


def test_a_name_is_that_of_the_folder_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "tiny")
    (tmp_path / "link").symlink_to(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path / "tiny")
    assert find(".") == find("../tiny") == find(f"{tmp_path}/tiny/") == find("../link")


def test_gpt2_names_its_sizes_otherwise(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_positions": 128, "n_embd": 12, "n_layer": 3, "vocab_size": 7}
    facts = find(str(folder(tmp_path / "g", config)))
    assert (facts.context, facts.hidden_size, facts.shapes.layers) == (128, 12, 3)


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
        "tokenizer.model.v3",
        "merges.txt",
        "modeling_x.py",
        "additional_chat_templates/default.jinja",
    ):
        (one / name).parent.mkdir(exist_ok=True)
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
        ("[" * 100_000, {"model.safetensors": b""}, "cannot be read: maximum recursion depth exceeded"),
        ({"model_type": "bert"}, {"model.safetensors": b""}, "of the family 'bert', which has no role map"),
        ({"model_type": ["llama"]}, {"model.safetensors": b""}, "of the family ['llama'], which has no role map"),
        ({**LLAMA, "hidden_size": "big"}, {"model.safetensors": b""}, "hidden_size is 'big', not a whole number"),
        ({**LLAMA, "vocab_size": 1.5}, {"model.safetensors": b""}, "vocab_size is 1.5, not a whole number"),
        ({**LLAMA, "num_hidden_layers": -1}, {"model.safetensors": b""}, "num_hidden_layers is -1, not"),
        ({**LLAMA, "sliding_window": [4]}, {"model.safetensors": b""}, "sliding_window is [4], not a whole number"),
        (LLAMA, {"consolidated.safetensors": b""}, "no weights as safetensors"),
        (LLAMA, {PARTS[1]: b"", PARTS[2]: b""}, "no weights as safetensors"),
        (LLAMA, {PARTS[0]: INDEX, PARTS[1]: b""}, f"lacks {PARTS[2]}, which its {PARTS[0]} names. Copy all files"),
        (LLAMA, {PARTS[0]: b"{}", PARTS[1]: b""}, f"{PARTS[0]} names no weights"),
        (LLAMA, {PARTS[0]: b"{", PARTS[1]: b""}, f"{PARTS[0]} cannot be read"),
        ({**LLAMA, "transformers_weights": "sub/m.safetensors"}, {"model.safetensors": b""}, "no weights as"),
        (LLAMA, {"model.safetensors": b"", "adapter_config.json": b"{}"}, "holds an adapter (adapter_config.json)"),
        (LLAMA, {"pytorch_model.bin": b""}, "no weights as safetensors. Convert its .bin files"),
        (LLAMA, {"notes.md": b""}, "no weights as safetensors. Copy the"),
    ],
)
def test_folders_that_are_no_model(config: Any, files: dict[str, bytes], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelProblem) as caught:
        find(str(folder(tmp_path / "m", config, **files)))
    assert words in str(caught.value)
    assert caught.value.fix
    assert "hub" not in str(caught.value)


def test_a_model_in_parts_is_whole_with_all_of_them(tmp_path: Path) -> None:
    assert (
        find(str(folder(tmp_path / "m", LLAMA, **{PARTS[0]: INDEX, PARTS[1]: b"", PARTS[2]: b""}))).shapes.layers == 2
    )
    named = {**LLAMA, "transformers_weights": "mine.safetensors"}
    assert find(str(folder(tmp_path / "n", named, **{"mine.safetensors": b""}))).shapes.layers == 2


def test_folders_named_like_files_and_links_to_nothing(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    before = find(str(path))
    for name in ("x.json", "x.gguf", "chat_template.jinja"):
        (path / name).mkdir()
    assert find(str(path)) == before
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelProblem, match=r"model\.safetensors is a link to a file that is not there\. Copy"):
        find(str(path))


def in_mirror(root: Path, *named: str, **added: bytes) -> Path:
    """A mirror whose lock names some files of a model, or all but those that were added afterwards."""
    path = root / "models" / "owner--small"
    path.parent.mkdir()
    folder(path)
    sums = {
        f"models/owner--small/{name}": Sum(sha256=checksum(path / name), bytes=(path / name).stat().st_size)
        for name in named
    }
    write_lock(root, Lock(models={"owner/small": Locked(origin="hub:owner/small@" + "c" * 40, files=sums)}))
    for name, content in added.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    ["chat_template.jinja", "adapter_config.json", "additional_chat_templates/default.jinja", "vocab.txt", "x.py"],
)
def test_files_added_to_a_fetched_model_are_refused(name: str, tmp_path: Path) -> None:
    path = in_mirror(tmp_path, "config.json", "model.safetensors", **{"README.md": b"", "generation_config.json": b""})
    assert find("owner/small", None, str(tmp_path)).revision == "c" * 40
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"{}")
    with pytest.raises(DataProblem, match=rf"{name} was not fetched, .* Move it away") as caught:
        find("owner/small", None, str(tmp_path))
    assert LOCK in caught.value.message


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ((), f"config.json is not in {LOCK}"),
        (("model.safetensors",), f"config.json is not in {LOCK}"),
        (("config.json",), "model.safetensors was not fetched"),
    ],
)
def test_a_lock_that_names_too_few_files_locks_nothing(named: tuple[str, ...], words: str, tmp_path: Path) -> None:
    in_mirror(tmp_path, *named)
    with pytest.raises(DataProblem, match=words):
        find("owner/small", None, str(tmp_path))


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
    on_hub(monkeypatch, tmp_path, ["config.json", *PARTS])
    facts = find("owner/name", "v1")
    assert (facts.name, facts.revision, facts.folder, facts.context) == ("owner/name", "commit of v1", None, 64)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["config.json", "pytorch_model.bin"], "no weights as safetensors"),
        # Neither is loaded by transformers, nor fetched into a mirror.
        (["config.json", "consolidated.safetensors"], "no weights as safetensors"),
        (["config.json", "onnx/model.safetensors"], "no weights as safetensors"),
        (["config.json", PARTS[1]], "no weights as safetensors"),
        (["config.json", "model.safetensors", "adapter_config.json"], "holds an adapter"),
        (["adapter_config.json", "adapter_model.safetensors"], "holds an adapter"),
        (["sub/config.json", "model.safetensors"], "no config.json"),
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


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        (["config.json"], False),
        (["model.safetensors"], False),
        (["config.json", PARTS[0], PARTS[1]], False),
        (["config.json", *PARTS], True),
        (["config.json", "model.safetensors"], True),
    ],
)
def test_a_model_that_is_cached_in_part_is_not_blamed(
    files: list[str],
    whole: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the hub is off, as after a plan: only the cache says which files there are."""
    import huggingface_hub

    on_hub(monkeypatch, tmp_path, files)
    (tmp_path / PARTS[0]).write_bytes(INDEX)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    if whole:
        assert find("owner/name").shapes.layers == 2
        return
    with pytest.raises(ModelProblem, match=r"owner/name is not wholly in the cache, and the hub is off\.") as caught:
        find("owner/name")
    assert "peftbench fetch" in caught.value.fix
    assert "HF_HUB_OFFLINE" in caught.value.fix


def test_without_the_client_the_fix_is_a_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="hub"):
        find("owner/name")
