"""CPT, context-aware prompt tuning: a prompt of examples, moved a little (Blau et al., 2024, arXiv 2410.17222)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, ClassVar, cast

from peftbench.methods._method import Base, Example, Facts
from peftbench.methods._peft import PromptMethod, peft_model

if TYPE_CHECKING:
    import torch
    from torch import nn

    from peftbench.methods._virtual import VirtualTokens

# The library counts four kinds of tokens in each example: around the input, the input, around the answer, the answer.
_KINDS, _INPUT, _ANSWER = 4, 2, 4


@dataclass(frozen=True)
class Cpt(PromptMethod):
    """The prompt starts as training examples: the embeddings of their questions are trained, those of answers stay.

    `num_virtual_tokens` is its length: as many examples as fill it, in the order of training, the first cut in front.
    `opt_projection_epsilon`, times the root of the model's width over 2048, is how far an embedding may move from its
    start; the paper has a distance of its own for words around an input, which here move like the input.
    `opt_loss_decay_factor` is what the last answer in the prompt counts beside those of the batch, in means over
    tokens; each answer before it counts this much of the next.
    """

    config_class: ClassVar[str] = "CPTConfig"
    learning_rate: ClassVar[float] = 1e-3
    size: ClassVar[str | None] = "num_virtual_tokens"

    num_virtual_tokens: int = 100
    opt_projection_epsilon: float = 0.1
    opt_loss_decay_factor: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.opt_projection_epsilon > 0:
            raise ValueError("opt_projection_epsilon must be above 0")
        if not 0 <= self.opt_loss_decay_factor <= 1:
            raise ValueError("opt_loss_decay_factor must be at least 0 and at most 1")

    @property
    def looks_first(self) -> bool:
        """The prompt starts as training examples."""
        return True

    def trainable_parameters(self, facts: Facts) -> int:
        """One embedding for each virtual token; those of answers are among them, and never move."""
        return self.num_virtual_tokens * facts.hidden_size

    def settings_on(self, base: Base) -> dict[str, Any]:
        """The hyperparameters in peft's terms, and the examples."""
        settings = super().settings_on(base)
        tokens, kinds = context(base.examples, self.num_virtual_tokens)
        return {
            **settings,
            "opt_projection_format_epsilon": self.opt_projection_epsilon,
            "opt_weighted_loss_type": "decay",
            "cpt_token_ids": tokens,
            "cpt_mask": [1] * len(tokens),
            "cpt_tokens_type_mask": kinds,
        }

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, whose prompt is drawn back into its balls by `after_step` alone."""
        model = super().wrapped(base)
        encoder = peft_model(model).prompt_encoder["default"]
        # The library draws it back in every call, by which the last bits of an answer change from one to the next.
        encoder.forward = lambda indices: encoder.embedding(indices) + encoder.delta_embedding(indices)
        return model

    def after_step(self, module: nn.Module, step: int) -> None:
        """Draw every embedding back into its ball."""
        del step
        encoder = peft_model(module).prompt_encoder["default"]
        encoder.delta_embedding.weight.data = encoder.get_projection()

    def penalty(self, module: nn.Module) -> torch.Tensor | None:
        """The loss of the answers in the prompt: nothing behind them bears on it, so the prompt alone is asked."""
        import torch
        from torch.nn.functional import cross_entropy

        config, behind = peft_model(module).active_peft_config, cast("VirtualTokens", module)
        prompt = behind.prompt(1).to(behind.base.get_input_embeddings().weight.dtype)
        logits = behind.base(inputs_embeds=prompt, use_cache=False).logits[0, :-1].float()
        tokens, kinds = (
            torch.tensor(row[1:], device=logits.device) for row in (config.cpt_token_ids, config.cpt_tokens_type_mask)
        )
        losses = cross_entropy(logits, tokens, reduction="none")
        answers = {kind for kind in config.cpt_tokens_type_mask[1:] if kind > 0 and kind % _KINDS == 0}
        means = [losses[kinds == kind].mean() for kind in sorted(answers, reverse=True)]
        # A configuration of the library may leave the decay away.
        decay = config.opt_loss_decay_factor if config.opt_weighted_loss_type == "decay" else 1.0
        weighted = [decay**place * mean for place, mean in enumerate(means, start=1)]
        return torch.stack(weighted).sum() if weighted else None


def context(examples: Sequence[Example], length: int) -> tuple[list[int], list[int]]:
    """The end of the first examples, `length` tokens of them, and what each token is, as the library counts.

    Where the examples have fewer tokens together they begin anew, and without any there is just room for a prompt.
    """
    tokens: list[int] = []
    kinds: list[int] = []
    for place, example in enumerate(cycle(examples)):
        if len(tokens) >= length:
            break
        tokens += [*example.prompt, *example.answer]
        kinds += [_KINDS * place + _INPUT] * len(example.prompt) + [_KINDS * place + _ANSWER] * len(example.answer)
    return (tokens[-length:], kinds[-length:]) if tokens else ([0] * length, [_INPUT] * length)


METHOD = Cpt
