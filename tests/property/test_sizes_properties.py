"""Every method with a size can be brought as near to a number of parameters as its sizes allow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._method import Method, build
from peftbench.methods.lora import Lora
from peftbench.models._facts import ModelFacts
from peftbench.models._shapes import shapes

# Widths with few divisors in common, as those of small models are.
SMALL = {
    "vocab_size": 300,
    "hidden_size": 72,
    "intermediate_size": 108,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
FACTS = ModelFacts("small", "0", "llama", 256, shapes("llama", SMALL.get), None, Path("small"))


def made(name: str) -> Method:
    return build(name, registry.load("methods", name).value, {})


SIZED = [name for name in registry.shipped("methods") if made(name).size is not None]
FIXED = [name for name in registry.shipped("methods") if made(name).size is None]


@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_in_the_order_of_what_they_train(name: str) -> None:
    method = made(name)
    counts = [method.with_size(size).trainable_parameters(FACTS) for size in method.sizes(FACTS)]
    assert None not in counts
    assert counts == sorted(counts, key=lambda count: count or 0)
    assert counts[0] != counts[-1], "the size decides how much is trained"


@pytest.mark.parametrize("name", SIZED)
def test_the_nearest_size_is_found(name: str) -> None:
    method = made(name)
    counts = [method.with_size(size).trainable_parameters(FACTS) or 0 for size in method.sizes(FACTS)]

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 2 * max(counts)))
    def check(target: int) -> None:
        resized = method.resized(FACTS, target)
        assert type(resized) is type(method)
        found = resized.trainable_parameters(FACTS)
        assert found is not None
        assert abs(found - target) == min(abs(count - target) for count in counts)

    check()


@pytest.mark.parametrize("name", FIXED)
def test_what_has_no_size_says_so(name: str) -> None:
    with pytest.raises(MethodProblem, match="has no size to choose") as caught:
        made(name).resized(FACTS, 1000)
    assert caught.value.fix


def test_the_scale_of_lora_stays_what_it_was() -> None:
    resized = made("lora").resized(FACTS, 10_000)
    assert isinstance(resized, Lora)
    assert (resized.r, resized.lora_alpha) == (7, 14)
