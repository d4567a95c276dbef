"""The loss of many answer tokens, without the logits of all of them in memory at the same time.

A vocabulary of 128,256 takes half a megabyte a token, three times over: logits, probabilities and their gradient. So
the model hands out what its head is given, and the head is asked about some of it at a time, once more for the
gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

# Logits that are in memory together: 128 MiB of 32 bits.
AT_ONCE = 2**25


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states, of so many tokens of a `vocabulary`."""

    module: nn.Module
    vocabulary: int

    @classmethod
    def of(cls, module: nn.Module) -> Head | None:
        """The head of the model in a module, if it has one."""
        model = next((each for each in module.modules() if isinstance(each, PreTrainedModel)), None)
        head = None if model is None else model.get_output_embeddings()
        return None if model is None or head is None else cls(head, model.config.get_text_config().vocab_size)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Have it hand on what it is given."""
        before = vars(self.module).get("forward")
        self.module.forward = _as_it_is
        try:
            yield
        finally:
            del self.module.forward
            if before is not None:
                self.module.forward = before

    def loss(self, hidden: torch.Tensor, labels: torch.Tensor, at_once: int) -> torch.Tensor:
        """Cross-entropy summed over tokens, of so many tokens at once; hidden [tokens, width], labels [tokens]."""
        parts = zip(torch.split(hidden, at_once), torch.split(labels, at_once), strict=True)
        return torch.stack([checkpoint(self._loss, *part, use_reentrant=False) for part in parts]).sum()

    def _loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return summed(self.module(hidden), labels)


def too_many(module: nn.Module, tokens: int) -> bool:
    """Whether the logits of so many tokens are more than those that are in memory together."""
    head = Head.of(module)
    return head is not None and tokens * head.vocabulary > AT_ONCE


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in 32 bits, summed over tokens: logits [tokens, vocabulary], labels [tokens]."""
    return nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


def _as_it_is(hidden: torch.Tensor) -> torch.Tensor:
    return hidden
