"""Virtual tokens in front of the caller's: one wrapper for every method that learns a prompt.

`peft` counts padding into the positions and puts the prompt before the padding, so a padded answer differs from an
unpadded one. Here virtual tokens take positions 0..n-1, real tokens go on from n wherever padding stands, and the
logits returned belong to the caller's own tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class VirtualTokens(nn.Module):
    """A base model behind the learned prompt of a `peft.PeftModel`.

    Answers `forward(input_ids, attention_mask, position_ids, past_key_values=None, ...)` as the base does. Shapes:
    ids, mask and positions [batch, tokens]; with a cache, the mask covers cached and new tokens of the caller's.
    """

    def __init__(self, peft: Any) -> None:
        super().__init__()
        self.peft = peft
        self.count: int = peft.active_peft_config.num_virtual_tokens

    @property
    def base(self) -> Any:
        """The model without the prompt."""
        return self.peft.get_base_model()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Any = None,
        **options: Any,
    ) -> Any:
        """The base's answer for the caller's tokens; the prompt is put in front when there is no cache yet."""
        rows = input_ids.shape[0]
        mask = torch.cat([attention_mask.new_ones(rows, self.count), attention_mask], dim=1)
        embedded = self.base.get_input_embeddings()(input_ids)
        positions = position_ids + self.count
        first = past_key_values is None or past_key_values.get_seq_length() == 0
        if first:
            prompt = self.peft.get_prompt(rows).to(embedded.dtype)
            embedded = torch.cat([prompt, embedded], dim=1)
            own = torch.arange(self.count, device=positions.device).expand(rows, -1)
            positions = torch.cat([own, positions], dim=1)
        output = self.base(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past_key_values,
            **options,
        )
        if first and output.logits.shape[1] > input_ids.shape[1]:
            output.logits = output.logits[:, self.count :]
        return output
