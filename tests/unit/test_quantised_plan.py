"""Quantisation as an axis of the model: what is planned, what it is called, what is set aside, without torch."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import pytest

from peftbench.errors import InvalidSpec
from peftbench.models._facts import ModelFacts
from peftbench.models._quantization import obstacle
from peftbench.models._shapes import shapes
from peftbench.plan import Plan, make_plan
from peftbench.scoring.aggregate import scores
from peftbench.spec import ModelRef, Quantization, Resources, RunSpec
from peftbench.suites._read import build_suite
from unit.samples import record, run_spec

NF4 = {"use": "tiny", "quantization": "nf4"}
FP4 = {"use": "tiny", "quantization": "fp4"}


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.models._quantization.importlib.util.find_spec", lambda name: importlib.util)


def plan_of(models: list[Any], methods: list[Any], tasks: tuple[str, ...] = ("toy_mood",), seeds: int = 1) -> Plan:
    asked = {"tasks": list(tasks), "models": models, "methods": methods, "seeds": list(range(1, seeds + 1))}
    return make_plan(build_suite(asked), Resources())


def told(plan: Plan) -> list[tuple[str, str, str | None]]:
    return [(run.spec.model.label, run.spec.method.name, run.spec.base.quantization) for run in plan.runs]


def test_qlora_runs_in_4_bits_and_stands_under_the_model() -> None:
    plan = plan_of(["tiny"], ["lora", "qlora"])
    assert told(plan) == [("tiny", "lora", None), ("tiny", "qlora", "nf4")]
    assert [(score.model, score.method) for score in scores(record(run.spec) for run in plan.runs)] == [
        ("tiny", "lora"),
        ("tiny", "qlora"),
    ]


def test_a_model_asked_for_in_4_bits_is_named_so() -> None:
    plan = plan_of(["tiny", NF4], ["zero_shot", "lora", "qlora"])
    assert told(plan) == [
        ("tiny", "zero_shot", None),
        ("tiny", "lora", None),
        ("tiny", "qlora", "nf4"),
        ("tiny (nf4)", "zero_shot", "nf4"),
        ("tiny (nf4)", "lora", "nf4"),
        ("tiny (nf4)", "qlora", "nf4"),
    ]
    assert len({run.run_id for run in plan.runs}) == 6


def test_each_base_is_loaded_once() -> None:
    """Whatever the order of methods and tasks."""
    plan = plan_of(["tiny", NF4], ["qlora", "zero_shot", "lora"], tasks=("toy_mood", "toy_more"), seeds=2)
    bases = [run.spec.base for run in plan.runs]
    changes = sum(one != other for one, other in itertools.pairwise(bases))
    assert changes == len({base.model_dump_json() for base in bases}) - 1 == 1


@pytest.mark.parametrize(
    ("model", "method", "reason"),
    [
        (FP4, "qlora", "its base is in nf4, and this model is asked for in fp4"),
        (NF4, "full", "it needs the weights of its base unpacked, and in nf4 they are packed"),
        (NF4, "pissa", "it needs the weights of its base unpacked, and in nf4 they are packed"),
        (NF4, "olora", "olora starts at what the weights are, and in nf4 they are packed"),
    ],
    ids=str,
)
def test_what_cannot_be_is_set_aside(model: Any, method: str, reason: str) -> None:
    plan = plan_of([model], [method])
    assert not plan.runs
    (aside,) = plan.set_aside
    assert aside.reason == reason
    assert aside.model == f"tiny ({model['quantization']})"


@pytest.mark.parametrize(("quantization", "package"), [("nf4", "bitsandbytes"), ("int8", "torchao")])
def test_a_package_that_lacks_is_named(quantization: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.models._quantization.importlib.util.find_spec", lambda name: None)
    plan = plan_of(["tiny", {"use": "tiny", "quantization": quantization}], ["lora"])
    assert told(plan) == [("tiny", "lora", None)]
    (aside,) = plan.set_aside
    assert package in aside.reason
    assert f"pip install 'peftbench[{package}]'" in aside.reason


@pytest.mark.parametrize(
    ("model_type", "hidden", "quantization", "reason"),
    [
        ("llama", 48, "nf4", "nf4 packs blocks of 64 inputs, and no layer has a whole number of them"),
        ("llama", 48, "int8", None),
        ("llama", 64, "nf4", None),
        ("gpt2", 64, "nf4", None),
        ("gpt2", 64, "int8", "int8 does not take the transposed layers of gpt2"),
    ],
)
def test_a_model_that_cannot_be_packed(
    model_type: str, hidden: int, quantization: Quantization, reason: str | None
) -> None:
    sizes = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 3 * hidden}
    facts = ModelFacts("m", "0", model_type, 64, shapes(model_type, sizes.get), None, None)
    assert obstacle(quantization, facts) == reason


def test_another_word_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="quantization: Input should be 'nf4'"):
        plan_of([{"use": "tiny", "quantization": "gptq"}], ["lora"])


def test_ids_of_earlier_runs_stay() -> None:
    """Taken before there was any quantisation."""
    assert run_spec().run_id == "sst2--tiny--lora--s1--1e8bb187"


def test_the_same_run_on_a_packed_base_is_another_one() -> None:
    plain = run_spec()
    packed = RunSpec.parse(
        {**plain.model_dump(mode="json"), "model": {**plain.model.model_dump(), "quantization": "nf4"}}, ""
    )
    assert packed.run_id.startswith("sst2--tiny-nf4--lora--s1--")
    assert packed.run_id != plain.run_id
    assert plain.base == ModelRef(name="tiny", revision="0")
