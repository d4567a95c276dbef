"""What the `adapters` library makes of bottleneck adapters; run by an interpreter that has it, and not this package.

    python adapters_library.py '[["llama", "double_seq_bn", {"reduction_factor": 4}, "FOLDER"], ...]'

writes into each folder a tiny model (as a model folder), `adapter.safetensors` with tensors named
`BLOCK.attention|output.down|up.weight|bias`, `calls.safetensors` with ids, mask, positions and the logits of base and
adapted model, and `defaults.json` with what the library takes where nothing is said.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

SPREAD = 0.2
KINDS = {"double_seq_bn": "DoubleSeqBnConfig", "seq_bn": "SeqBnConfig", "par_bn": "ParBnConfig"}
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    },
    "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 64},
}
NAME = re.compile(r"\.(\d+)\.(attention|output)_adapters\.adapters\.one\.adapter_(down|up)(?:\.0)?\.(weight|bias)$")


def write(model_type: str, kind: str, settings: dict[str, Any], folder: Path) -> None:
    """Write the folder of one configuration of adapters in one model."""
    import adapters
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, vocab_size=60, bos_token_id=0, eos_token_id=1, **SIZES[model_type])
    ).eval()
    spread(model.parameters())
    model.save_pretrained(folder / "model")
    mask = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
    calls = {"input_ids": torch.randint(60, mask.shape), "attention_mask": mask}
    calls["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        base = model(**calls, use_cache=False).logits
    config = getattr(adapters, KINDS[kind])
    adapters.init(model)
    model.add_adapter("one", config=config(**settings))
    model.set_active_adapters("one")
    weights = {"{}.{}.{}.{}".format(*found.groups()): value for name, value in model.named_parameters()
               if (found := NAME.search(name))}  # fmt: skip
    spread(weights.values())
    with torch.no_grad():
        adapted = model(**calls, use_cache=False).logits
    save_file({name: value.detach().contiguous() for name, value in weights.items()}, folder / "adapter.safetensors")
    save_file({**calls, "base": base, "adapted": adapted}, folder / "calls.safetensors")
    said = config()
    defaults = {key: said[key] for key in ("reduction_factor", "non_linearity", "scaling")}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")


def spread(values: Any) -> None:
    """Move values far from their start, so that a wrong place shows."""
    import torch

    with torch.no_grad():
        for value in values:
            value.add_(torch.randn_like(value) * SPREAD)


if __name__ == "__main__":
    for model_type, kind, settings, folder in json.loads(sys.argv[1]):
        write(model_type, kind, settings, Path(folder))
