"""Greedy decoding in batches, with a cache, through the same call that training uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from peftbench.models._batch import pad


@dataclass(frozen=True)
class Decoding:
    """How to decode: at most `max_new_tokens` after each prompt, up to and without `end_id`."""

    max_new_tokens: int
    end_id: int
    batch: int
    device: torch.device
    bf16: bool = False


def greedy(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    how: Decoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """The most likely continuation of every prompt, token by token, in the order of the prompts.

    Prompts of similar length are decoded together; which ones are decided by the prompts alone.
    """
    module.eval()
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), how.batch):
        places = order[start : start + how.batch]
        for place, answer in zip(places, _decode([prompts[place] for place in places], module, how), strict=True):
            answers[place] = answer
        progress(min(start + how.batch, len(order)), len(order))
    return answers


@torch.inference_mode()
def _decode(prompts: Sequence[Sequence[int]], module: nn.Module, how: Decoding) -> list[list[int]]:
    batch = pad(prompts, how.device)
    ids, mask, positions, cache = batch.input_ids, batch.attention_mask, batch.position_ids, None
    written: list[torch.Tensor] = []
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=how.device)
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
        for _ in range(how.max_new_tokens):
            output = module(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = output.logits[:, -1].argmax(dim=-1)
            written.append(chosen)
            finished |= chosen == how.end_id
            if bool(finished.all()):
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    rows = torch.stack(written, dim=1).tolist()
    return [row[: row.index(how.end_id)] if how.end_id in row else row for row in rows]
