"""Attention among segments of one row: each sees what all share, and itself.

Registered with `transformers` under a name, so that any model whose attention goes through that registry computes it
without a change. Rows that are no segments are left to torch's fused attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as fused
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from peftbench import matmul
from peftbench.segments import Segments, carried

NAME = "peftbench"

# Tokens of a block up to which a few large products take less time than fused attention, by what multiplies matrices.
_SHORT: Mapping[matmul.Matmul, int] = {"torch": 32, "onednn": 256}


def know_segments(model: Any) -> None:
    """Have the attention of a model know segments, where it is torch's fused one and can be exchanged."""
    if model.config._attn_implementation == "sdpa":  # noqa: SLF001 - the library has no other name for it
        model.set_attn_implementation(NAME)


def attend(  # noqa: PLR0913, PLR0917 - as `transformers` calls it
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as `transformers` asks for it: query [rows, heads, tokens, size]; keys may have fewer heads, as values.

    There may be more keys than queries: those of a cache, in front, which all see. The answer is
    [rows, tokens, heads, size].
    """
    segments = carried(attention_mask)
    if segments is None or segments.dense is not None:
        usual: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return usual
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # The products below are those of 32-bit numbers; a CPU's fused attention is slow over short blocks.
    plain = query.dtype == torch.float32 and not dropout and not torch.is_autocast_enabled(query.device.type)
    on_cpu = plain and query.device.type == "cpu"
    short = _SHORT[matmul.in_use()] if on_cpu else 0
    parts = []
    for blocks in _blocks(segments, past=key.shape[2] - segments.tokens):
        if blocks.grid.shape[1] <= short:
            out = _grouped(query, key, value, blocks, scale)
        else:
            out = _fused(query, key, value, blocks, scale, dropout)
        parts.append(out.index_select(0, blocks.cells))
    return torch.cat(parts)[None], None


@dataclass(frozen=True)
class _Blocks:
    """Blocks of tokens of a row that see themselves, and the `front`: the first keys, the `past` of a cache among them.

    For the rest see `Segments`.
    """

    grid: torch.Tensor
    cells: torch.Tensor
    unseen: torch.Tensor
    past: int
    front: int


def _blocks(segments: Segments, past: int) -> Iterator[_Blocks]:
    """What is shared, as a block of its own, and the segments behind it."""
    if segments.shared:
        places = torch.arange(segments.shared, device=segments.device)
        yield _Blocks(places[None], places, (places > places[:, None])[None], past, past)
    yield _Blocks(segments.grid, segments.cells, segments.unseen, past, past + segments.shared)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: _Blocks, scale: float, dropout: float
) -> torch.Tensor:
    """[blocks x longest, heads, size]: by torch's fused attention, as padded rows behind copies of the front."""
    rows, width = blocks.grid.shape
    groups = query.shape[1] // key.shape[1]

    def batch(of: torch.Tensor, behind: int) -> torch.Tensor:
        """[blocks, heads, longest, size]"""
        flat = of[0].index_select(1, blocks.grid.flatten() + behind)
        return flat.view(len(flat), rows, width, -1).transpose(0, 1)

    def whole(of: torch.Tensor) -> torch.Tensor:
        """[blocks, heads, front + longest, size]"""
        both = torch.cat([of[:, :, : blocks.front].expand(rows, -1, -1, -1), batch(of, blocks.past)], dim=2)
        return both.repeat_interleave(groups, dim=1)

    seen = nn.functional.pad(~blocks.unseen, (blocks.front, 0), value=True)[:, None]
    out: torch.Tensor = fused(batch(query, 0), whole(key), whole(value), attn_mask=seen, dropout_p=dropout, scale=scale)
    return out.transpose(1, 2).flatten(0, 1)


def _grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: _Blocks, scale: float
) -> torch.Tensor:
    """[blocks x longest, heads, size]: the same as a few large matrix products, which is faster on a CPU."""
    rows, width = blocks.grid.shape
    heads, front = key.shape[1], blocks.front
    groups, size = query.shape[1] // heads, query.shape[-1]
    flat = blocks.grid.flatten()
    asked = query[0].index_select(1, flat).view(heads, groups, rows, width, size).transpose(1, 2)
    own = (each[0].index_select(1, flat + blocks.past).view(heads * rows, width, size) for each in (key, value))
    hidden = torch.zeros(blocks.unseen.shape, device=query.device).masked_fill(blocks.unseen, -torch.inf)
    out: torch.Tensor = _Grouped.apply(  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        asked.reshape(heads, -1, size), key[0, :, :front], value[0, :, :front], *own, hidden[:, None], scale
    )
    return out.view(heads, rows, groups, width, size).permute(1, 3, 0, 2, 4).flatten(2, 3).flatten(0, 1)


class _Grouped(torch.autograd.Function):
    """Softmax attention of grouped rows; the probabilities are computed again for the gradient, and not kept.

    Shapes, with H key heads, R segments, G query heads to a key head, W tokens: query [H, RGW, size]; shared keys and
    values [H, front, size]; own ones [HR, W, size]; `hidden` [R or 1, 1, W, W], added to scores of own tokens.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        """[H, RGW, size]"""
        query, keys, values, own_keys, own_values, hidden, scale = given
        weights = _weights(query, keys, own_keys, hidden, scale)
        shared, own = _parts(weights, keys, own_keys)
        out = _together(torch.bmm(shared, values), own, own_values)
        ctx.save_for_backward(query, keys, values, own_keys, own_values, hidden, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """The gradients of the five tensors."""
        query, keys, values, own_keys, own_values, hidden, out = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        weights = _weights(query, keys, own_keys, hidden, ctx.scale)
        shared, own = _parts(weights, keys, own_keys)
        by_row = (len(own_keys), -1, query.shape[-1])
        to_values = torch.bmm(shared.mT, gradient)
        to_own_values = torch.bmm(own.mT, gradient.view(by_row))
        slope = torch.empty_like(weights)
        shared, own = _parts(slope, keys, own_keys)
        shared.copy_(torch.bmm(gradient, values.mT))
        own.copy_(torch.bmm(gradient.view(by_row), own_values.mT))
        slope.sub_((gradient * out).sum(dim=-1, keepdim=True)).mul_(weights).mul_(ctx.scale)
        to_query = _together(torch.bmm(shared, keys), own, own_keys)
        to_keys = torch.bmm(shared.mT, query)
        to_own_keys = torch.bmm(own.mT, query.view(by_row))
        return to_query, to_keys, to_values, to_own_keys, to_own_values, None, None


def _weights(
    query: torch.Tensor, keys: torch.Tensor, own_keys: torch.Tensor, hidden: torch.Tensor, scale: float
) -> torch.Tensor:
    """[H, RGW, front + W]: what each row takes of the shared tokens, and of those of its segment."""
    weights = query.new_empty(*query.shape[:2], keys.shape[1] + own_keys.shape[1])
    shared, own = _parts(weights, keys, own_keys)
    shared.copy_(torch.bmm(query, keys.mT))
    own.copy_(torch.bmm(query.view(len(own_keys), -1, query.shape[-1]), own_keys.mT))
    weights.mul_(scale)
    rows = len(own_keys) // len(query)
    wide = own_keys.shape[1]
    # As a view: [H, R, G, W, W].
    own.view(-1, rows, own.shape[1] // wide, wide, wide).add_(hidden)
    return torch.softmax(weights, dim=-1, out=weights)


def _parts(weights: torch.Tensor, keys: torch.Tensor, own_keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of `weights` [H, RGW, front + W]: [H, RGW, front] and [HR, GW, W]."""
    own = weights.view(len(own_keys), -1, weights.shape[-1])
    return weights[..., : keys.shape[1]], own[..., keys.shape[1] :]


def _together(shared: torch.Tensor, own: torch.Tensor, own_values: torch.Tensor) -> torch.Tensor:
    """[H, RGW, size]: to what came of the shared tokens, what comes of those of each segment."""
    return torch.baddbmm(shared.view(len(own_values), -1, shared.shape[-1]), own, own_values).view_as(shared)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
