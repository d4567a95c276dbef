"""Building methods from plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, make_dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from peftbench import registry
from peftbench.errors import MethodProblem, UnknownName
from peftbench.methods._method import Base, Facts, Method, build
from peftbench.methods._peft import layers
from peftbench.models._facts import find
from peftbench.models._roles import ARCHITECTURES


@dataclass(frozen=True)
class Sample(Method):
    """A method with a field of every kind."""

    rank: int = 2
    rate: float = 0.5
    on: bool = False
    name: str = "n"
    places: tuple[str, ...] = ("a",)
    maybe: int | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError("rank must be at least 1")

    def attach(self, base: Base) -> Any:
        """Nothing."""
        return base.model


def facts(model_type: str = "llama", context: int = 64) -> Facts:
    return cast(
        "Facts",
        SimpleNamespace(
            name="m",
            revision="r",
            model_type=model_type,
            context=context,
            hidden_size=8,
            quantization=None,
            transposed=model_type == "gpt2",
            roles=ARCHITECTURES[model_type],
        ),
    )


def test_settings_go_in_and_come_out() -> None:
    given = {"rank": 4, "rate": 1, "on": True, "name": "x", "places": ["b", "c"], "maybe": 3}
    method = build("sample", Sample, given)
    assert method == Sample(4, 1.0, True, "x", ("b", "c"), 3)
    assert method.settings() == given
    assert build("sample", Sample, method.settings()) == method
    assert build("sample", Sample, {}) == Sample()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": "4"}, "rank: Input should be a valid integer"),
        ({"rank": True}, "rank: Input should be a valid integer"),
        ({"rank": 4.0}, "rank: Input should be a valid integer"),
        ({"rank": None}, "rank"),
        ({"rate": "1"}, "rate: Input should be a valid number"),
        ({"on": 1}, "on: Input should be a valid boolean"),
        ({"name": 1}, "name: Input should be a valid string"),
        ({"places": "b"}, "places"),
        ({"places": [1]}, "places.0"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rate": math.nan}, "cannot be built"),
        ({"name": object()}, "cannot be built"),
    ],
)
def test_wrong_settings_are_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodProblem) as caught:
        build("sample", Sample, settings)
    assert words in caught.value.message
    assert caught.value.fix


def test_an_unknown_hyperparameter_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'rank'") as caught:
        build("sample", Sample, {"rnk": 1})
    assert "method sample" in caught.value.message


class NotADataclass(Method):
    """Lacks attach, too."""


@dataclass(frozen=True)
class WithoutAttach(Method):
    """Lacks attach."""


@pytest.mark.parametrize("thing", [None, Sample(), int, "lora", dict])
def test_what_is_no_method(thing: Any) -> None:
    with pytest.raises(MethodProblem, match="not a dataclass that extends Method"):
        build("thing", thing, {})


def test_a_method_without_attach() -> None:
    with pytest.raises(MethodProblem, match="cannot be built") as caught:
        build("thing", WithoutAttach, {})
    assert "attach" in caught.value.fix


def test_what_a_method_does_when_it_says_nothing() -> None:
    base = cast("Base", SimpleNamespace(model=None, facts=facts()))
    assert Sample().unfit(facts()) is None
    assert (Sample().virtual_tokens, list(Sample().changes(base))) == (0, [])


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_is_built_from_its_own_settings(name: str) -> None:
    method = build(name, registry.load("methods", name).value, {})
    assert build(name, type(method), method.settings()) == method
    assert method.version >= 1
    assert method.learning_rate > 0


@pytest.mark.parametrize(
    "name", [name for name in registry.names("methods") if registry.load("methods", name).value.size is not None]
)
def test_another_size_changes_no_other_field(name: str) -> None:
    """Nor one that is added later."""
    cls = make_dataclass("Later", [("later", int, 0)], bases=(registry.load("methods", name).value,), frozen=True)
    method = build(name, cls, {"later": 7})
    resized = method.with_size(method.sizes(find("tiny"))[-1])
    assert (type(resized), resized.settings()["later"], resized != method) == (cls, 7, True)


def test_lora_needs_the_roles_it_targets() -> None:
    lora = registry.load("methods", "lora").value
    assert lora().unfit(facts()) is None
    assert lora(targets=("gate",)).unfit(facts("gpt2")) == "gpt2 has no layers in the role 'gate'"
    assert lora(targets=("gate",), target_modules=("c_attn",)).unfit(facts("gpt2")) is None
    chosen = lora(targets=("query", "down")).peft_settings(facts())
    assert chosen["target_modules"] == ["q_proj", "down_proj"]
    assert "targets" not in chosen
    assert lora(target_modules=("x",)).peft_settings(facts())["target_modules"] == ["x"]
    assert [lora().peft_settings(facts(kind))["fan_in_fan_out"] for kind in ("llama", "gpt2")] == [False, True]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_qlora_takes_all_linear_layers_that_there_are(model_type: str) -> None:
    """In some families nothing has the role of a gate."""
    qlora = registry.load("methods", "qlora").value
    known = facts(model_type)
    assert qlora().unfit(known) is None
    roles = [role for role in known.roles if role != "norm"]
    assert sorted(qlora().peft_settings(known)["target_modules"]) == sorted(layers(known, roles))
    assert qlora(targets=("gate",)).unfit(facts("gpt2")) == "gpt2 has no layers in the role 'gate'"


def test_layers_are_named_once_and_missing_roles_are_a_sentence() -> None:
    assert layers(facts("gpt2"), ("query", "key", "value", "output")) == ["c_attn", "attn.c_proj"]
    with pytest.raises(MethodProblem, match="no layers in the role 'gate'") as caught:
        layers(facts("gpt2"), ("gate",))
    assert "query" in caught.value.fix


@pytest.mark.parametrize(("tokens", "context", "fits"), [(15, 32, True), (16, 32, False), (20, 0, True)])
def test_a_prompt_takes_less_than_half_of_the_context(tokens: int, context: int, *, fits: bool) -> None:
    prompt = registry.load("methods", "prompt_tuning").value(num_virtual_tokens=tokens)
    assert prompt.virtual_tokens == tokens
    assert (prompt.unfit(facts(context=context)) is None) == fits
    with pytest.raises(MethodProblem, match="at least 1"):
        build("prompt_tuning", type(prompt), {"num_virtual_tokens": 0})


def test_a_forgotten_decorator_is_told() -> None:
    class Forgotten(Sample):
        width: int = 4

    with pytest.raises(MethodProblem, match="declares 'width' and is no dataclass itself") as caught:
        build("mine", Forgotten, {})
    assert "@dataclass(frozen=True)" in caught.value.fix


def test_a_method_may_only_change_what_another_one_does() -> None:
    class Changed(Sample):
        version: ClassVar[int] = 2

    assert build("mine", Changed, {"rank": 3}).settings()["rank"] == 3
