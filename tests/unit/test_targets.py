"""Targets that are none, refused before anything starts, by every method that is put into layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._method import build
from peftbench.methods._peft import TargetedPeftMethod
from peftbench.methods.lora import Lora
from peftbench.models._facts import ModelFacts, find
from peftbench.models._roles import ARCHITECTURES
from peftbench.plan import make_plan
from peftbench.spec import Resources
from peftbench.suites._read import build_suite
from peftbench.testing.models import tiny

TARGETED: dict[str, type[TargetedPeftMethod]] = {
    name: value
    for name in registry.shipped("methods")
    if issubclass(value := registry.load("methods", name).value, TargetedPeftMethod)
}
TAKES_NORMS = {"ln_tuning"}
TINY = find("tiny")


def unfit(name: str, facts: ModelFacts = TINY, **settings: Any) -> str | None:
    return build(name, TARGETED[name], settings).unfit(facts)


def reasons(*methods: object) -> list[str]:
    suite = build_suite({"tasks": ["toy_mood"], "models": ["tiny"], "methods": list(methods), "seeds": [1]})
    plan = make_plan(suite, Resources())
    assert not plan.runs
    return [aside.reason for aside in plan.set_aside]


def test_most_of_the_library_is_put_into_layers() -> None:
    assert len(TARGETED) > 30


@pytest.mark.parametrize("name", TARGETED)
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"targets": []}, "targets must name a role"),
        ({"target_modules": []}, "target_modules must name a layer, or be left away"),
    ],
)
def test_no_target_at_all_is_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodProblem, match=f"Method {name}: {words}") as caught:
        build(name, TARGETED[name], settings)
    assert caught.value.fix


@pytest.mark.parametrize("name", TARGETED)
def test_norms_are_for_those_that_take_them(name: str) -> None:
    if name in TAKES_NORMS:
        assert unfit(name, targets=["norm"]) is None
        assert unfit(name, target_modules=["input_layernorm"]) is None
        return
    with pytest.raises(MethodProblem, match="targets must be linear layers, and norm is none"):
        build(name, TARGETED[name], {"targets": ["query", "norm"]})
    assert "has no layer 'input_layernorm'" in (unfit(name, target_modules=["q_proj", "input_layernorm"]) or "")


@pytest.mark.parametrize("name", TARGETED)
@pytest.mark.parametrize("names", [["nope"], ["q_proj", "nope"], ["layers.0.self_attn.nope"], [""]])
def test_a_name_that_no_layer_ends_with_is_set_aside(name: str, names: list[str]) -> None:
    assert "llama has no layer" in (unfit(name, target_modules=names) or "")


@pytest.mark.parametrize("name", TARGETED)
@pytest.mark.parametrize("names", [["q_proj"], ["self_attn.q_proj", "k_proj"], ["layers.1.self_attn.q_proj"]])
def test_a_name_that_some_layer_ends_with_is_not(name: str, names: list[str]) -> None:
    assert unfit(name, target_modules=names) is None


def test_the_plan_says_which_layer_was_probably_meant() -> None:
    nearest, none_near, too_deep = reasons(
        *({"use": "lora", "target_modules": [name]} for name in ("q_prj", "nope", "layers.99.self_attn.q_proj"))
    )
    assert nearest == "llama has no layer 'q_prj' that peft's LoraConfig takes; the nearest is 'q_proj'"
    assert none_near.endswith("; it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj")
    assert "'layers.99.self_attn.q_proj'" in too_deep


def test_what_is_gated_is_looked_at_too() -> None:
    (reason,) = reasons({"use": "ts_peft", "over": {"use": "lora", "target_modules": ["nope"]}})
    assert "no layer 'nope'" in reason


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_layer_of_every_family_may_be_named(model_type: str, tmp_path: Path) -> None:
    """Whole and by its last name, but for the norms, which a linear method cannot take."""
    base = tiny(model_type, tmp_path)
    for path, module in base.model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            ends = (path, path.rpartition(".")[2])
            assert [unfit("ln_tuning", base.facts, target_modules=[end]) for end in ends] == [None, None]
            norm = "norm" in type(module).__name__.lower()
            assert [unfit("lora", base.facts, target_modules=[end]) is not None for end in ends] == [norm, norm]


def test_what_a_file_of_the_library_says_is_left_to_the_library() -> None:
    pattern: Any = r".*\.(q|v)_proj"
    assert Lora(target_modules=pattern).unfit(TINY) is None
    listed: Any = ["q_proj", "query_key_value"]
    assert Lora(target_modules=listed).unfit(TINY) is None


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
@pytest.mark.parametrize("name", TARGETED)
def test_a_dropout_is_a_share(name: str, share: float) -> None:
    beside = {"r": 4} if name == "supertuning" else {}
    for key in (key for key in TARGETED[name].__dataclass_fields__ if key.endswith("dropout")):
        with pytest.raises(MethodProblem, match=f"{key} must be at least 0 and below 1"):
            build(name, TARGETED[name], {key: share, **beside})
