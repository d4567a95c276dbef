"""MPT, multitask prompt tuning: a shared prompt, scaled for each task (Wang et al., 2023, arXiv 2303.02861)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import PromptMethod


@dataclass(frozen=True)
class Mpt(PromptMethod):
    """The prompt of a task is the shared one, times the product of two thin matrices (section 3.1), elementwise.

    `num_ranks` is the rank of that product. The paper distils the shared prompt from many source tasks first, with 100
    virtual tokens; here it is trained on the one task of the run, so that what is compared is the parametrisation.
    """

    config_class: ClassVar[str] = "MultitaskPromptTuningConfig"
    learning_rate: ClassVar[float] = 3e-2
    size: ClassVar[str | None] = "num_virtual_tokens"

    num_ranks: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_ranks < 1:
            raise ValueError("num_ranks must be at least 1")

    def trainable_parameters(self, facts: Facts) -> int:
        """The shared prompt, and two matrices for the task."""
        tokens, hidden = self.num_virtual_tokens, facts.hidden_size
        return tokens * hidden + self.num_ranks * (tokens + hidden)


METHOD = Mpt
