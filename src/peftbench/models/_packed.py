"""Linear layers whose weights are packed into few bits while a model is loaded."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from peftbench.models._facts import ModelFacts
from peftbench.models._quantization import missing, unpackable
from peftbench.spec import ModelRef, Quantization

# They tell every process of kernels that it has no use for.
for _library in ("bitsandbytes", "torchao"):
    logging.getLogger(_library).setLevel(logging.ERROR)

# They stay as they are, as in the paper.
_HEADS = ("lm_head", "embed_out")


def packing_options(ref: ModelRef, facts: ModelFacts, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told, so that the linear layers of blocks are packed where they are going to be."""
    if ref.quantization is None:
        return {}
    return {"quantization_config": _config(ref.quantization, ref.dtype, facts), "device_map": {"": device}}


def _config(quantization: Quantization, dtype: str, facts: ModelFacts) -> Any:
    """A configuration of transformers.

    Raises:
        MissingExtra: the package that packs them is not installed.
    """
    lacking = missing(quantization)
    if lacking is not None:
        raise lacking
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if quantization == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=[*_HEADS])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        # What the library calls it, for 4 bits too.
        llm_int8_skip_modules=[*_HEADS, *unpackable(quantization, facts.shapes)],
    )


def keep_layout(model: nn.Module) -> None:
    """Have weights stay as they were packed.

    On processors that multiply in bf16 the library would repack them when they are first asked, with scales rounded to
    16 bits: then they are other weights, no gradient passes them, and not all shapes can be packed so.
    """
    layers: Iterable[Any] = model.modules()
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def numbers(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for: one that is packed holds fewer."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)
