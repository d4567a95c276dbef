"""Virtual tokens in front of the caller's: wrappers for the methods that learn a prompt, or keys and values.

`peft` counts padding into the positions and puts the prompt before the padding, so a padded answer differs from an
unpadded one. Here virtual tokens take positions 0..n-1, real tokens go on from n wherever padding stands, and the
logits returned belong to the caller's own tokens. The prompt stands right before the first real token of each row:
a model with a sliding window counts columns, so padding in between would push the prompt out of sight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicLayer

from peftbench.segments import Segments, carried


class _Behind(nn.Module):
    """A base model behind what a `peft.PeftModel` has learned, `count` positions long."""

    def __init__(self, peft: Any) -> None:
        super().__init__()
        self.peft = peft
        self.count: int = peft.active_peft_config.num_virtual_tokens

    @property
    def base(self) -> Any:
        """The model without the prompt."""
        return self.peft.get_base_model()

    def prompt(self, rows: int) -> Any:
        """What was learned, for as many rows; of methods that learn several tasks at once, the first one's."""
        if not hasattr(self.peft.active_peft_config, "num_tasks"):
            return self.peft.get_prompt(rows)
        return self.peft.get_prompt(rows, torch.zeros(rows, dtype=torch.long, device=self.peft.device))


class VirtualTokens(_Behind):
    """A base model behind the learned prompt of a `peft.PeftModel`.

    Answers `forward(input_ids, attention_mask, position_ids, past_key_values=None, ...)` as the base does. Shapes:
    ids, mask and positions [batch, tokens]; with a cache, the mask covers cached and new tokens of the caller's.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Any = None,
        **options: Any,
    ) -> Any:
        """The base's answer for the caller's tokens; the prompt is put in front when there is no cache yet."""
        if segments := carried(attention_mask):
            return self._segments(input_ids, segments, position_ids, **options)
        rows = input_ids.shape[0]
        padding = (attention_mask.cumsum(dim=1) == 0).sum(dim=1)
        mask = _joined(attention_mask.new_ones(rows, self.count), attention_mask, padding)
        embedded = self.base.get_input_embeddings()(input_ids)
        positions = position_ids + self.count
        first = past_key_values is None or past_key_values.get_seq_length() == 0
        if first:
            embedded = _joined(self.prompt(rows).to(embedded.dtype), embedded, padding)
            own = torch.arange(self.count, device=positions.device).expand(rows, -1)
            positions = _joined(own, positions, padding)
        output = self.base(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past_key_values,
            **options,
        )
        if first and output.logits.shape[1] > input_ids.shape[1]:
            # From the end, the caller's real tokens stand where they stood; what padding gets does not matter.
            output.logits = output.logits[:, -input_ids.shape[1] :]
        return output

    def _segments(
        self, input_ids: torch.Tensor, segments: Segments, positions: torch.Tensor, logits_to_keep: Any, **options: Any
    ) -> Any:
        """The base's answer for texts in one row, which share the prompt; logits are those of a tensor of places."""
        embedded = self.base.get_input_embeddings()(input_ids)
        own = torch.arange(self.count, device=positions.device)[None]
        return self.base(
            inputs_embeds=torch.cat([self.prompt(1).to(embedded.dtype), embedded], dim=1),
            attention_mask=segments.behind(self.count).mask(),
            position_ids=torch.cat([own, positions + self.count], dim=1),
            logits_to_keep=logits_to_keep + self.count,
            **options,
        )


class CachedPrefix(_Behind):
    """A base model behind the learned keys and values of a `peft.PeftModel`.

    Answers the calls that `VirtualTokens` answers. The prefix takes positions 0..n-1, and in a padded row the padding
    stands between it and the tokens: right for a model that attends to all that the mask shows.
    """

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Any = None,
        *,
        use_cache: bool = True,
        **options: Any,
    ) -> Any:
        """The base's answer for the caller's tokens; the prefix is put into the cache when there is none yet."""
        rows = input_ids.shape[0]
        if past_key_values is None or past_key_values.get_seq_length() == 0:
            past_key_values = self.prompt(rows)
            if not use_cache:
                past_key_values = _unchanging(past_key_values)
        if segments := carried(attention_mask):
            mask = segments.mask(self.count)
        else:
            mask = torch.cat([attention_mask.new_ones(rows, self.count), attention_mask], dim=1)
        return self.base(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids + self.count,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **options,
        )


class _Unchanging(DynamicLayer):  # type: ignore[misc]  # transformers leaves it untyped
    """Keys and values of a layer that are put in front of others, and stay as they are.

    So a layer may be computed a second time, for its gradient.
    """

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Keys and values [rows, heads, cached + tokens, size]."""
        assert self.keys is not None
        assert self.values is not None
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


def _unchanging(cache: Any) -> Cache:
    """A cache with the same keys and values, to which nothing is added."""
    layers = []
    for filled in cache.layers:
        layer = _Unchanging()
        layer.keys, layer.values, layer.is_initialized = filled.keys, filled.values, True
        layers.append(layer)
    return Cache(layers=layers)


def _joined(prompt: torch.Tensor, own: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """Columns of a prompt put into the caller's, in each row behind its leading padding."""
    both = torch.cat([prompt, own], dim=1)
    count, start = prompt.shape[1], padding[:, None]
    place = torch.arange(both.shape[1], device=both.device)
    source = torch.where(place < start, place + count, torch.where(place < start + count, place - start, place))
    return both.gather(1, source.reshape(*source.shape, *[1] * (both.ndim - 2)).expand_as(both))
