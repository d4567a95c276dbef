"""How the linear layers of a base can be packed into few bits, and what each way needs. Without torch.

LLM.int8() (arXiv 2208.07339) is not among them: which features of the input it leaves in 16 bits is decided over all
rows of a batch, so that an answer would depend on the questions beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from peftbench.errors import MissingExtra
from peftbench.models._facts import ModelFacts
from peftbench.models._roles import TRANSPOSED
from peftbench.shapes import Shapes
from peftbench.spec import Quantization

# What packs like that; the extra has the package's name.
_PACKAGES: Mapping[Quantization, str] = {"nf4": "bitsandbytes", "fp4": "bitsandbytes", "int8": "torchao"}
# Numbers in 4 bits that share a scale (arXiv 2305.14314, section 3).
_BLOCK = 64


def unpackable(quantization: Quantization, shapes: Shapes) -> list[str]:
    """The linear layers that stay as they are, by suffix: in 4 bits those whose inputs are no whole number of blocks.

    On some CPUs bitsandbytes 0.50 takes the wrong scales for them (an error of 0.2 to 0.5 of the weights instead of
    0.09), and a run has the same base wherever it is done.
    """
    if quantization == "int8":
        return []
    return [name for name, (inputs, _) in shapes.linear.items() if inputs % _BLOCK]


class Wish(Protocol):
    """What a method says of packed weights: whether it works on them, and the packing that its base always has."""

    @property
    def quantised_base(self) -> bool: ...
    @property
    def quantization(self) -> Quantization | None: ...


def fitted(method: Wish, asked: Quantization | None, facts: ModelFacts) -> tuple[ModelFacts, str | None]:
    """A model packed as a method or whoever asks wants it, and why that cannot be, whatever is installed, or None."""
    own = method.quantization
    if asked and own and asked != own:
        return facts, f"its base is in {own}, and this model is asked for in {asked}"
    quantization = own or asked
    if quantization is None:
        return facts, None
    if not method.quantised_base:
        return facts, f"it needs the weights of its base unpacked, and in {quantization} they are packed"
    return replace(facts, quantization=quantization), obstacle(quantization, facts)


def obstacle(quantization: Quantization, facts: ModelFacts) -> str | None:
    """Why a model cannot be packed like that, whatever is installed, or None."""
    # torchao leaves such layers as they are.
    if quantization == "int8" and facts.model_type in TRANSPOSED:
        return f"int8 does not take the transposed layers of {facts.model_type}"
    if set(unpackable(quantization, facts.shapes)) == set(facts.shapes.linear):
        return f"{quantization} packs blocks of {_BLOCK} inputs, and no layer has a whole number of them"
    return None


def lacking(facts: ModelFacts) -> str | None:
    """Why a model cannot be had like that on this machine, with the fix, or None."""
    absent = None if facts.quantization is None else missing(facts.quantization)
    return None if absent is None else f"{facts.quantization} needs a package that is not installed. {absent.fix}"


def missing(quantization: Quantization) -> MissingExtra | None:
    """What has to be installed first, None where nothing has; the package is not imported."""
    package = _PACKAGES[quantization]
    return None if importlib.util.find_spec(package) else MissingExtra(package, package)
