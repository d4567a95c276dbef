"""Prompts that a module has read, with the keys and values of each, to go on from with any tokens.

Where the layout has it, prompts are read in one row: what all begin with once, and so what some of them do, as the
passage that several questions are asked about. Then what is kept of each prompt is put side by side with the others',
with room for what is written behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicCache, DynamicLayer

from peftbench import heap
from peftbench.models._batch import pad
from peftbench.models._layout import Layout, Row, common_beginning, in_a_row

# Tokens that prompts share beyond what all do, for which they are read together; and the most that such have, for each
# of them is hidden from the others.
_WORTH, _TOGETHER = 16, 1024
# Columns that are made room for, when there is none left.
_MORE = 16


@dataclass
class Prefilled:
    """What a module holds of prompts, one a row.

    `mask` is [prompts, columns], 1 where a prompt has a token; `following` are the positions of the next tokens, and
    `last` those that no token is put behind. Only where it is `loose` may tokens be taken back and prompts dropped.
    """

    module: nn.Module
    cache: Any
    mask: torch.Tensor
    following: torch.Tensor
    last: torch.Tensor
    loose: bool

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """[prompts, tokens, vocabulary]: what follows each token, of which every prompt gets as many.

        What a prompt gets that is not meant for it may pass the last position, which a model may have no place for.
        """
        count = ids.shape[1]
        self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], dim=1)
        columns = torch.arange(count, device=ids.device)
        output = self.module(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=torch.minimum(self.following[:, None] + columns, self.last[:, None]),
            past_key_values=self.cache,
            use_cache=True,
            # As places and not as a number: a slice of the hidden states would go through the head more slowly.
            logits_to_keep=columns,
        )
        self.cache = output.past_key_values
        self.following = self.following + count
        logits: torch.Tensor = output.logits[:, -count:]
        return logits

    def take_back(self, counts: Sequence[int]) -> None:
        """Forget of every prompt so many of the tokens that came last."""
        least = min(counts)
        if least:
            self.cache.crop(-least)
            self.mask = self.mask[:, : self.mask.shape[1] - least]
        gone = torch.tensor(counts, device=self.mask.device)
        places = torch.arange(self.mask.shape[1], 0, -1, device=self.mask.device)
        self.mask = self.mask.masked_fill(places <= (gone - least)[:, None], 0)
        self.following = self.following - gone

    def only(self, rows: Sequence[int]) -> None:
        """Drop all prompts but these."""
        places = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(places)
        self.mask, self.following, self.last = self.mask[places], self.following[places], self.last[places]


class _Roomy(DynamicLayer):  # type: ignore[misc]  # transformers leaves it untyped
    """Keys and values of a layer, [prompts, heads, columns, size], in memory that has room for more."""

    def __init__(self, layer: Any, columns: torch.Tensor) -> None:
        """Those of a row's `layer`, of the `columns` [prompts, columns] of each prompt."""
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
        self._room = _side_by_side(layer.keys, columns), _side_by_side(layer.values, columns)
        self.keys, self.values = (room[:, :, : columns.shape[1]] for room in self._room)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """All keys and values, with new ones [prompts, heads, tokens, size] behind them."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = _with_room(self.keys, end + _MORE), _with_room(self.values, end + _MORE)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these prompts alone."""
        super().batch_select_indices(indices)
        self._room = self.keys, self.values


def _side_by_side(whole: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[prompts, heads, columns, size] from [1, heads, tokens, size], at the beginning of memory for more columns."""
    _, heads, tokens, size = whole.shape
    # What stands where there is room does not matter.
    wanted = torch.nn.functional.pad(columns, (0, _MORE))[:, None]
    wanted = wanted + tokens * torch.arange(heads, device=whole.device)[:, None]
    found = whole.reshape(-1, size).index_select(0, wanted.flatten())
    return found.view(*wanted.shape, size)


def _with_room(whole: torch.Tensor, columns: int) -> torch.Tensor:
    """The same at the beginning of memory for so many columns."""
    rows, heads, filled, size = whole.shape
    made = whole.new_empty(rows, heads, columns, size)
    made[:, :, :filled] = whole
    return made


def in_order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The order in which prompts are best read, by their places: those that begin alike together, long ones last."""
    if not prompts:
        return []
    common = common_beginning(prompts)
    groups: list[list[int]] = []
    for place in sorted(range(len(prompts)), key=lambda place: (tuple(prompts[place]), place)):
        beside = groups and common_beginning((prompts[groups[-1][-1]], prompts[place])) - common >= _WORTH
        groups[-1].append(place) if beside else groups.append([place])
    groups.sort(key=lambda group: (max(len(prompts[place]) for place in group), min(group)))
    return [*chain.from_iterable(groups)]


def prefill(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    layout: Layout,
    *,
    behind: int,
    worth: int | None = None,
) -> tuple[Prefilled, torch.Tensor]:
    """Read prompts; what is held of them, and [prompts, vocabulary], logits of what follows each.

    At most so many tokens are going to stand `behind` each, those that are taken back not counted. Prompts that begin
    with the same tokens have to stand together, to be read together where that is `worth` it.
    """
    if layout.packed:
        found = _in_a_row(module, prompts, device, layout, behind, worth or _WORTH)
        if found is not None:
            return found
    batch = pad(prompts, device)
    output = module(**batch.inputs(), use_cache=True, logits_to_keep=torch.tensor([-1], device=device))
    following = batch.position_ids[:, -1] + 1
    cache, last = output.past_key_values, following + behind - 1
    return Prefilled(module, cache, batch.attention_mask, following, last, loose=False), output.logits[:, -1]


def _in_a_row(
    module: nn.Module, prompts: Sequence[Sequence[int]], device: torch.device, layout: Layout, behind: int, worth: int
) -> tuple[Prefilled, torch.Tensor] | None:
    """Those of prompts in one row; None where the module does not hold all of it, or holds something else beside it."""
    row, columns = _tree(prompts, device, layout, worth)
    # Of a cache of its own kind a model might drop what is out of its window.
    output = row.answered(module, [each[-1] for each in columns], past_key_values=DynamicCache(), use_cache=True)
    # What the row took beside, which lies in pieces too small for what is held of many prompts.
    heap.give_back()
    cache = output.past_key_values
    held = cache.get_seq_length()
    if type(cache) is not DynamicCache or any(layer.keys.shape[-2] != held for layer in cache.layers):
        return None
    before = held - row.segments.tokens
    following = torch.tensor([len(prompt) for prompt in prompts], device=device)
    taken = torch.zeros(len(prompts), before + max(map(len, prompts)), dtype=torch.long)
    for place, own in enumerate(columns):
        taken[place, :before] = torch.arange(before)
        taken[place, before : before + len(own)] = before + torch.tensor(own)
    taken = taken.to(device)
    for place, layer in enumerate(cache.layers):
        # One at a time: what the row held of a layer is free when that of the next is copied.
        cache.layers[place] = _Roomy(layer, taken)
        del layer
    mask = (torch.arange(taken.shape[1] - before, device=device) < following[:, None]).long()
    read = Prefilled(module, Cache(layers=cache.layers), mask, following, following + behind - 1, loose=True)
    return read, output.logits.flatten(0, 1)


def _tree(
    prompts: Sequence[Sequence[int]], device: torch.device, layout: Layout, worth: int
) -> tuple[Row, list[list[int]]]:
    """Prompts in one row, and of each the places in it where its tokens stand."""
    common = common_beginning(prompts) if layout.shared else 0
    trunks, branches, columns = [], [], []
    place = common
    for some, beginning in _groups(prompts, common, worth if layout.shared else 0):
        trunk = range(place, place + beginning - common)
        rest = [prompt[beginning:] for prompt in some if len(prompt) > beginning]
        place = trunk.stop
        for prompt in some:
            own = range(place, place + len(prompt) - beginning)
            columns.append([*chain(range(common), trunk, own)])
            place = own.stop
        trunks.append(some[0][:beginning])
        branches.append(rest)
    return in_a_row(trunks, device, layout, common=common, branches=branches), columns


def _groups(prompts: Sequence[Sequence[int]], common: int, worth: int) -> list[tuple[Sequence[Sequence[int]], int]]:
    """Neighbours that begin alike, and with how many tokens: one alone, with all. If `worth` is 0 all are alone."""
    found = []
    start = 0
    while start < len(prompts):
        end, beginning = start + 1, len(prompts[start])
        while worth and end < len(prompts):
            shared = min(beginning, common_beginning(prompts[start : end + 1]))
            saved = (end - start - 1) * (beginning - common), (end - start) * (shared - common)
            tokens = sum(map(len, prompts[start : end + 1])) - (end - start) * shared
            if shared - common < worth or saved[1] <= saved[0] or tokens > _TOGETHER:
                break
            end, beginning = end + 1, shared
        found.append((prompts[start:end], beginning))
        start = end
    return found
