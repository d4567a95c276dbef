"""Attention among segments of one row: each sees what all share, and itself.

Registered with `transformers` under a name, so that any model whose attention goes through that registry computes it
without a change. Rows that are no segments are left to torch's fused attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as fused
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from peftbench.segments import Tile, carried

NAME = "peftbench"

# Tokens of a tile: on a CPU what is computed for nothing costs more than products that are small; elsewhere, less.
_NARROW, _WIDE = 96, 1024
# Tokens to a row that are written behind others, a guess of them at most.
_FEW = 16


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
    # The products are those of 32-bit numbers; a CPU's fused attention is slow over short blocks.
    products = query.device.type == "cpu" and query.dtype == torch.float32 and not dropout
    products = products and not torch.is_autocast_enabled(query.device.type)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if segments is None or segments.dense is not None:
        # Not in training, where layers that are computed again have to come to the same bits.
        answering = not (module.training or torch.is_grad_enabled())
        if products and answering and _are_few(query, key, attention_mask, options):
            return _of_few(query, key, value, attention_mask, scale), None
        usual: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return usual
    past = key.shape[2] - segments.tokens
    if products:
        return _Products.apply(query, key, value, segments.tiles(_NARROW), past, scale), None  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return _fused(query, key, value, segments.tiles(_WIDE), past, {"scale": scale, "dropout_p": dropout}), None


def _are_few(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, options: Mapping[str, Any]) -> bool:
    """Whether a few tokens ask about many more in a cache, and nothing but a mask of bools says what they see."""
    tokens = query.shape[2]
    told = tokens == 1 if mask is None else mask.dtype == torch.bool and mask.shape[1] == 1
    return (
        tokens <= _FEW
        and tokens < key.shape[2]
        and told
        and all(options.get(name) is None for name in ("softcap", "position_bias"))
    )


def _of_few(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """[rows, tokens, heads, size]: of few tokens to each row, as products of matrices, for each head of keys one."""
    rows, heads, tokens, size = query.shape
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    scores = torch.bmm(query.reshape(len(keys), -1, size) * scale, keys.mT)
    if mask is not None:
        seen = scores.view(rows, key.shape[1], -1, tokens, keys.shape[1])
        seen.masked_fill_(~mask[:, :, None], -torch.inf)
    answer = torch.bmm(torch.softmax(scores, dim=-1), values)
    return answer.view(rows, heads, tokens, -1).transpose(1, 2)


def _asked(tile: Tile, whole: torch.Tensor, past: int) -> torch.Tensor:
    """[..., tokens, size]: of all keys or values those that the tile may see, behind the `past` of a cache."""
    own = whole[..., past + tile.first : past + tile.end, :]
    front = past + tile.shared
    return torch.cat([whole[..., :front, :], own], dim=-2) if front else own


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tiles: Sequence[Tile],
    past: int,
    options: Mapping[str, Any],
) -> torch.Tensor:
    """[1, tokens, heads, size]: by torch's fused attention, with these options of it."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outs = []
    for tile in tiles:
        seen = nn.functional.pad(~tile.unseen, (past, 0), value=True)
        keys, values = (_asked(tile, whole, past) for whole in (key, value))
        asking = query[:, :, tile.start : tile.end]
        outs.append(fused(asking, keys, values, attn_mask=seen, **options))
    return torch.cat(outs, dim=2).transpose(1, 2)


class _Products(torch.autograd.Function):
    """Softmax attention as products of matrices; the probabilities are computed again for the gradient, and not kept.

    Inside, H is the number of key heads, and G that of the query heads to each, W the tokens of a tile, N those that
    they may see.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        """[1, tokens, heads, size]"""
        query, key, value, tiles, past, scale = given
        _, heads, tokens, size = query.shape
        out: torch.Tensor = query.new_empty(1, tokens, heads, size)
        for tile in tiles:
            asking, keys, values = _Products._of(tile, query, key, value, past, scale)
            weights = _Products._weights(asking, keys, tile, past)
            answer = torch.bmm(weights, values).view(heads, -1, size)
            out[0, tile.start : tile.end] = answer.transpose(0, 1)
        ctx.save_for_backward(query, key, value)
        ctx.rest = tiles, past, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """The gradients of the three tensors."""
        query, key, value = ctx.saved_tensors
        tiles, past, scale = ctx.rest
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for tile in tiles:
            asking, keys, values = _Products._of(tile, query, key, value, past, scale)
            weights = _Products._weights(asking, keys, tile, past)
            gradient = gradients[0][0, tile.start : tile.end].transpose(0, 1).reshape(asking.shape)
            slope = torch._softmax_backward_data(torch.bmm(gradient, values.mT), weights, -1, weights.dtype)  # noqa: SLF001 - torch gives the gradient of its softmax no other name
            of_tile = to_query[0, :, tile.start : tile.end]
            torch.mul(torch.bmm(slope, keys).view(of_tile.shape), scale, out=of_tile)
            front = past + tile.shared
            for whole, part in ((to_key, torch.bmm(slope.mT, asking)), (to_value, torch.bmm(weights.mT, gradient))):
                whole[0, :, :front] += part[:, :front]
                whole[0, :, past + tile.first : past + tile.end] += part[:, front:]
        return to_query, to_key, to_value, None, None, None

    @staticmethod
    def _of(
        tile: Tile, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, past: int, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, scaled: [H, GW, size]; keys and values: [H, N, size]."""
        asking = query[0, :, tile.start : tile.end].reshape(key.shape[1], -1, query.shape[-1])
        return asking * scale, _asked(tile, key[0], past), _asked(tile, value[0], past)

    @staticmethod
    def _weights(asking: torch.Tensor, keys: torch.Tensor, tile: Tile, past: int) -> torch.Tensor:
        """[H, GW, N]: what each query takes of each value."""
        scores = torch.bmm(asking, keys.mT)
        hidden = tile.hidden
        scores.view(len(keys), -1, len(hidden), keys.shape[1])[..., past:].add_(hidden)
        return torch.softmax(scores, dim=-1, out=scores)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
