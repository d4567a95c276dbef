"""The blocks of a decoder, found through the roles of their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftbench.methods._method import Base
from peftbench.methods._peft import layers

if TYPE_CHECKING:
    from torch import nn


def block_names(base: Base) -> list[str]:
    """Module names of the blocks, first to last: what is numbered above each down projection."""
    ends = tuple(f".{name}" for name in layers(base.facts, ("down",)))
    found = [path.split(".") for path, _ in base.model.named_modules() if path.endswith(ends)]
    return [".".join(parts[: [part.isdigit() for part in parts].index(True) + 1]) for parts in found]


def blocks(base: Base) -> list[nn.Module]:
    """The blocks, first to last."""
    return [base.model.get_submodule(name) for name in block_names(base)]
