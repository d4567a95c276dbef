"""Texts in one row, and attention among them, against a mask and sums that are written out token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

from peftbench.models import _attention
from peftbench.models._attention import attend
from peftbench.segments import Segments, carried

CPU = torch.device("cpu")
# Of a segment its trunk, which has a token at least, and its branches, which may have none.
LENGTHS = st.tuples(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=3)).map(lambda both: (both[0], *both[1]))
SEGMENTS = st.builds(
    Segments,
    shared=st.integers(0, 5),
    lengths=st.lists(LENGTHS, min_size=1, max_size=4).map(tuple),
    device=st.just(CPU),
)
# Of a tile, at most.
WIDTHS = st.sampled_from([1, 2, 3, 5, 8, 10**6])
# Rules for what is seen, at the edges: nothing shared, one token, branches that are empty, and one segment of many.
EDGES = (
    Segments(0, ((1,),), CPU),
    Segments(3, ((1,), (4,), (2,)), CPU),
    Segments(0, ((2, 0, 3), (1, 0, 0)), CPU),
    Segments(2, ((1,), (3, 2, 2), (2, 1)), CPU),
)


def owners(segments: Segments) -> list[tuple[int, int]]:
    """Of every token of the row its segment and its branch, from 1: 0 is what all share, and the trunk."""
    found = [(0, 0)] * segments.shared
    for number, lengths in enumerate(segments.lengths, start=1):
        found += [(number, branch) for branch, length in enumerate(lengths) for _ in range(length)]
    return found


def seen(segments: Segments) -> torch.Tensor:
    """[tokens, tokens], bool: the token of the row sees that of the column."""
    who = owners(segments)

    def sees(asking: int, asked: int) -> bool:
        (segment, branch), (other, part) = who[asking], who[asked]
        return asked <= asking and (other == 0 or (other == segment and part in {0, branch}))

    return torch.tensor([[sees(asking, asked) for asked in range(len(who))] for asking in range(len(who))])


def with_edges(test: Any) -> Any:
    for segments in EDGES:
        test = example(segments)(test)
    return test


def with_edges_of_any_width(test: Any) -> Any:
    for segments in EDGES:
        for width in (1, 2, 10**6):
            test = example(segments, width)(test)
    return test


@settings(deadline=None, max_examples=60)
@given(SEGMENTS)
@with_edges
def test_where_segments_end(segments: Segments) -> None:
    who = owners(segments)
    assert segments.tokens == len(who)
    assert segments.ends == tuple(
        sum(segment <= last for segment, _ in who) for last in range(len(segments.lengths) + 1)
    )


@settings(deadline=None, max_examples=120)
@given(SEGMENTS, WIDTHS)
@with_edges_of_any_width
def test_tiles_are_the_row_and_ask_all_that_is_seen(segments: Segments, width: int) -> None:
    wanted = seen(segments)
    tiles = segments.tiles(width)
    assert [place for tile in tiles for place in range(tile.start, tile.end)] == [*range(segments.tokens)]
    for tile in tiles:
        assert tile.end - tile.start <= width
        asked = [*range(tile.shared), *range(tile.first, tile.end)]
        assert len({*asked}) == len(asked)
        found = torch.zeros(tile.end - tile.start, segments.tokens, dtype=torch.bool)
        found[:, asked] = ~tile.unseen
        assert torch.equal(found, wanted[tile.start : tile.end])
        assert torch.equal(tile.hidden, torch.where(tile.unseen, -torch.inf, 0.0))


def test_short_segments_stand_in_one_tile_and_long_ones_in_several() -> None:
    """So that what is computed grows as the row does, and not as its square."""
    short, long = Segments(4, ((3,),) * 1000, CPU), Segments(4, ((3000,),), CPU)
    assert len(short.tiles(96)) == 32
    assert max(tile.unseen.shape[1] for tile in short.tiles(96)) <= 4 + 96
    assert len(long.tiles(96)) == 33
    assert [tile.unseen.shape[1] for tile in long.tiles(96)][1:3] == [4 + 93, 4 + 187]


@settings(deadline=None, max_examples=60)
@given(SEGMENTS, st.integers(0, 3), st.integers(0, 3))
def test_the_mask_written_out(segments: Segments, more: int, past: int) -> None:
    """Behind more tokens that all see, in the row or in a cache; it is added to scores, so 0 is seen."""
    dense = Segments(segments.shared, segments.lengths, CPU, torch.float64).behind(more)
    wanted = seen(Segments(segments.shared + more, segments.lengths, CPU))
    mask = dense.mask(past)
    assert mask.shape == (1, 1, dense.tokens, past + dense.tokens)
    assert bool((mask[..., :past] == 0).all())
    assert torch.equal(mask[0, 0, :, past:] == 0, wanted)
    assert bool((mask[0, 0, :, past:][~wanted] == torch.finfo(torch.float64).min).all())
    assert carried(mask) is dense


class Case:
    """Queries, keys and values of a row, of 64 bits: query [1, heads, tokens, size], and what comes back is weighed."""

    def __init__(self, segments: Segments, past: int, groups: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        heads, size = 2, 4

        def drawn(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.segments, self.past = segments, past
        self.query = drawn(1, heads * groups, segments.tokens, size)
        self.key, self.value = (drawn(1, heads, past + segments.tokens, size) for _ in range(2))
        self.weights = drawn(1, segments.tokens, heads * groups, size)
        self.scale = 0.7

    def results(self, answer: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        """What an attention puts out, and the gradients of queries, keys and values."""
        given = [one.to(dtype).requires_grad_() for one in (self.query, self.key, self.value)]
        out = answer(*given)
        return [out, *torch.autograd.grad((out * self.weights.to(dtype)).sum(), given)]

    def plain(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Softmax over what is seen, written out; [1, tokens, heads, size]."""
        groups = query.shape[1] // key.shape[1]
        visible = nn.functional.pad(seen(self.segments), (self.past, 0), value=True)
        outs = []
        for head in range(query.shape[1]):
            scores = query[0, head] @ key[0, head // groups].T * self.scale
            powers = (scores - scores.max(dim=-1, keepdim=True).values).exp() * visible
            outs.append(powers / powers.sum(dim=-1, keepdim=True) @ value[0, head // groups])
        return torch.stack(outs, dim=1)[None]

    def by_segments(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Ours, as `transformers` calls it."""
        mask = self.segments.mask(self.past)
        out, nothing = attend(nn.Module(), query, key, value, mask, scaling=self.scale)
        assert nothing is None
        return out


# The way that numbers of a type go, and how near it comes to the exact ones. A gradient may be a sum in which larger
# numbers cancel.
WAYS = {"_Products": (torch.float32, 1e-5), "_fused": (torch.float64, 1e-12)}


@pytest.mark.parametrize("way", WAYS)
def test_attention_is_that_of_single_texts(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (other,) = {*WAYS} - {way}
    monkeypatch.setattr(_attention, other, None)
    dtype, close = WAYS[way]

    @settings(deadline=None, max_examples=60)
    @given(SEGMENTS, WIDTHS, st.integers(0, 3), st.sampled_from([1, 3]), st.integers(0, 9))
    @example(EDGES[0], 1, 0, 1, 0)
    @example(EDGES[2], 2, 2, 3, 0)
    @example(EDGES[3], 10**6, 0, 3, 0)
    def check(segments: Segments, width: int, past: int, groups: int, seed: int) -> None:
        monkeypatch.setattr(_attention, "_NARROW", width)
        monkeypatch.setattr(_attention, "_WIDE", width)
        case = Case(segments, past, groups, seed)
        wanted = case.results(case.plain, torch.float64)
        found = case.results(case.by_segments, dtype)
        for exact, ours in zip(wanted, found, strict=True):
            assert ours.shape == exact.shape
            torch.testing.assert_close(ours.double(), exact, rtol=10 * close, atol=close)

    check()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_numbers_of_other_types_are_left_to_fused_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attention, "_Products", None)
    case = Case(EDGES[3], past=2, groups=3, seed=0)
    close = {torch.float64: 1e-12, torch.bfloat16: 5e-2}[dtype]
    for exact, ours in zip(case.results(case.plain, torch.float64), case.results(case.by_segments, dtype), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), exact, rtol=close, atol=close)


def test_dropout_is_that_of_fused_attention() -> None:
    """Half of the probabilities are dropped: other numbers, with the same mean."""
    case = Case(EDGES[1], past=0, groups=1, seed=0)
    torch.manual_seed(0)
    query, key, value = (one.float() for one in (case.query, case.key, case.value))
    mask = case.segments.mask()
    found = [attend(nn.Module(), query, key, value, mask, dropout=0.5, scaling=case.scale)[0] for _ in range(2000)]
    assert not torch.equal(found[0], found[1])
    # Of 2000 draws the mean deviates by a few hundredths.
    torch.testing.assert_close(torch.stack(found).mean(dim=0), case.plain(query, key, value), rtol=0, atol=0.2)


@pytest.mark.parametrize("past", [0, 2])
def test_whoever_does_not_know_segments_gets_nan_and_no_number(past: int) -> None:
    """Not one token of the row is answered by attention that takes the mask for one of numbers."""
    case = Case(EDGES[3], past=past, groups=1, seed=0)
    query, key, value = (one.float() for one in (case.query, case.key, case.value))
    mask = case.segments.mask(past)
    module = nn.Module()
    module.num_key_value_groups = 1  # type: ignore[assignment]
    outs = {
        "torch": scaled_dot_product_attention(query, key, value, attn_mask=mask),
        "sdpa": sdpa_attention_forward(module, query, key, value, mask)[0],
        "eager": eager_attention_forward(module, query, key, value, mask, scaling=1.0)[0],
        # What a copy loses, a number does not take the place of.
        "ours, of a copy": attend(module, query, key, value, mask.clone())[0],
    }
    for name, out in outs.items():
        assert bool(out.isnan().all()), name


def test_a_mask_that_is_not_written_out_takes_no_memory() -> None:
    mask = Segments(10, ((5,),) * 2000, CPU).mask()
    assert mask.shape == (1, 1, 10_010, 10_010)
    assert mask.untyped_storage().nbytes() == 4
