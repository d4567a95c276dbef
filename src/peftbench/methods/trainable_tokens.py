"""Trainable tokens: the embeddings of some tokens are trained (peft's TrainableTokens)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peftbench.methods._method import Base, Facts, Family
from peftbench.methods._peft import PeftMethod, names_of, peft_model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainableTokens(PeftMethod):
    """Rows of the input embeddings are trained, and with them the same rows of a head that is tied to them.

    They are those of `token_indices`, or of the first `num_tokens` ids: a tokenizer made by merging numbers its tokens
    in the order they were merged, so that the most frequent pieces of words come first, and in many models the tokens
    of the chat before them. Of a smaller vocabulary it is all.
    """

    config_class: ClassVar[str] = "TrainableTokensConfig"
    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "num_tokens"

    num_tokens: int = 1000
    token_indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise ValueError("num_tokens must be at least 1")
        if self.token_indices is not None and not self.token_indices:
            raise ValueError("token_indices must name a token, or be left away")
        if self.token_indices and (
            min(self.token_indices) < 0 or len(set(self.token_indices)) < len(self.token_indices)
        ):
            raise ValueError("token_indices must be different ids, none below 0")

    def unfit(self, facts: Facts) -> str | None:
        """Ids that a model does not have."""
        vocabulary = facts.shapes.vocabulary
        if self.token_indices and max(self.token_indices) >= vocabulary > 0:
            return f"{facts.name} has {vocabulary} tokens, and no id {max(self.token_indices)}"
        return None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The ids; where the embeddings are the library knows."""
        return {"token_indices": self._ids(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The width of the model for each token; None where embeddings may have a width of their own (OPT)."""
        return None if facts.model_type == "opt" else len(self._ids(facts)) * facts.hidden_size

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Up to the whole vocabulary."""
        return range(1, facts.shapes.vocabulary + 1)

    def with_size(self, size: int) -> Self:
        """The first `size` tokens."""
        return replace(self, num_tokens=size, token_indices=None)

    def folded(self, base: Base) -> Iterable[str]:
        """The table of embeddings."""
        return names_of(base.model, base.model.get_input_embeddings().parameters())  # type: ignore[operator]

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        """The base with the trained rows in its table."""
        del base
        merged: nn.Module = peft_model(module).merge_and_unload()
        return merged

    def _ids(self, facts: Facts) -> list[int]:
        return list(self.token_indices or range(min(self.num_tokens, facts.shapes.vocabulary)))


METHOD = TrainableTokens
