"""What transformers reads beside a GGUF file, made of the file's own fields.

transformers makes a tokenizer of a GGUF by itself, but leaves out SmolLM's rule that every digit stands alone, and so
splits line breaks in front of a digit otherwise than the model was trained to see them. Therefore the tokenizer is
written here. The names of the fields are those of the GGUF specification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftbench.errors import MissingExtra, ModelProblem

# Every digit is a token; then words as GPT-2 splits them.
_SMOLLM = [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
]
# The type of a token that stands for no text.
_CONTROL = 3


def model_files(packed: Path) -> dict[str, str]:
    """Tokenizer, chat template and config of a Llama model with SmolLM's tokenizer: file names with their text.

    Equal bytes for equal fields, whatever versions are installed: a model folder counts by content. `config.json` comes
    last.

    Raises:
        ModelProblem: the file cannot be read, lacks a field, or holds a model of another kind.
        MissingExtra: the package gguf is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise MissingExtra("gguf", "gguf") from None
    fix = "Fetch the file again."
    try:
        reader = GGUFReader(packed)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        kind = tuple(fields[name] for name in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"))
        if kind != ("llama", "gpt2", "smollm"):
            raise ModelProblem(f"{packed.name} holds a model of another kind: {', '.join(kind)}.", fix)
        tied = "output.weight" not in {tensor.name for tensor in reader.tensors}
        return {
            "tokenizer.json": _json(_tokenizer(fields)),
            "tokenizer_config.json": _json(_tokenizer_config(fields)),
            "chat_template.jinja": fields["tokenizer.chat_template"],
            "config.json": _json(_config(fields, tied=tied)),
        }
    except KeyError as error:
        raise ModelProblem(f"{packed.name} has no field {error}.", fix) from error
    except (ValueError, IndexError) as error:
        raise ModelProblem(f"{packed.name} cannot be read as GGUF: {error}.", fix) from error


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _tokenizer(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    added = [
        {"id": number, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for number, (token, kind) in enumerate(zip(tokens, fields["tokenizer.ggml.token_type"], strict=True))
        if kind == _CONTROL
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _SMOLLM},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    tokens = fields["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **{name: tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()},
    }


def _config(fields: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "vocab_size": fields["llama.vocab_size"],
        "max_position_embeddings": fields["llama.context_length"],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": fields["llama.rope.dimension_count"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": tied,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }
