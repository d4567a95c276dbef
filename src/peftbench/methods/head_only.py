"""The head alone is trained, on a copy of its own: how far the base's last hidden states lead by themselves."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts, Family, Method

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class HeadOnly(Method):
    """A trained copy stands in the place of the head; embeddings that are tied to the head stay as they are.

    The copy is in full precision and counts whole: the words of the vocabulary times the width of the model.
    """

    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4
    quantised_base: ClassVar[bool] = True

    def trainable_parameters(self, facts: Facts) -> int:
        """A weight for each word and place, and a bias where the head has one."""
        return facts.shapes.vocabulary * facts.shapes.table + facts.shapes.head_bias

    def attach(self, base: Base) -> nn.Module:
        """The base with the copy in it."""
        model: Any = base.model
        own = model.get_output_embeddings()
        head = copy.deepcopy(own).float().requires_grad_(requires_grad=True)
        if own.weight.element_size() < 4:
            head.register_forward_pre_hook(_widened)
            head.register_forward_hook(partial(_narrowed, own.weight.dtype))
        model.set_output_embeddings(head)
        return base.model


def _widened(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    del layer
    return tuple(value.float() for value in inputs)


def _narrowed(dtype: torch.dtype, layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    del layer, inputs
    return output.to(dtype)


METHOD = HeadOnly
