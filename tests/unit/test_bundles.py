"""What was published together: the figures, where they come from, and how a suite uses them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from peftbench import registry
from peftbench.errors import InvalidSpec, UnknownName
from peftbench.methods._attach import attached
from peftbench.methods._method import Base, build
from peftbench.plan import make_plan
from peftbench.spec import PscpSpec, Resources, Suite
from peftbench.suites._bundle import bundle_names
from peftbench.suites._read import build_suite, read_suite, suite_names
from peftbench.testing.shapes import LLAMA_3_8B, llama_3_8b

ONE: dict[str, Any] = {"tasks": "toy_mood", "models": "tiny"}

# PEFT-Bench (arXiv 2511.21285 v1), Table 3, and its released configuration for BitFit; the MLP's count is that of
# three linear layers, 768 wide.
PARAMETERS = {
    "ia3": 196_608,
    "prompt_tuning": 409_600,
    "prefix_tuning": 34_177_536,
    "lora": 14_680_064,
    "ln_tuning": 266_240,
    "bitfit": 163_840,
}
P_TUNING = {"published_v1": 53_130_752, "published_head": 7_296_512}

# The published learning rates: one in the first version (its section 4), one for each soft prompt in the files.
RATES = {
    "published_v1": {},
    "published_head": {"prompt_tuning": 3e-2, "prefix_tuning": 1e-5, "p_tuning": 1e-3},
}


@pytest.fixture(scope="module")
def llama() -> Base:
    """The shape of Llama-3-8B, without weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_3_8B)).requires_grad_(requires_grad=False)
    return cast("Base", SimpleNamespace(model=model, facts=llama_3_8b()))


def planned(suite: Suite, method: str) -> Any:
    """The first run of a method."""
    return next(run.spec for run in make_plan(suite, Resources()).runs if run.spec.method.name == method)


def small(bundle: str, **own: Any) -> Suite:
    """A suite with a bundle, on the embedded model, whose context is too short for long answers."""
    return build_suite({**ONE, "bundle": bundle, "evaluate": {"max_new_tokens": 8}, **own})


@pytest.mark.parametrize("bundle", bundle_names())
def test_methods_train_what_was_published(bundle: str, llama: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors without values have no bits to sum.
    monkeypatch.setattr("peftbench.methods._attach.checksum", lambda model: {})
    counted = {}
    for entry in small(bundle).methods:
        method = build(entry.use, registry.load("methods", entry.use).value, entry.own())
        with torch.device("meta"), attached(method, llama) as adapter:
            counted[entry.use] = adapter.parameters
    assert counted == {**PARAMETERS, "p_tuning": P_TUNING[bundle]}


def test_without_a_bundle_ia3_scales_what_its_paper_scales(llama: Base) -> None:
    """Keys, values and what the second feed-forward layer takes in: 32 x (1,024 + 1,024 + 14,336)."""
    assert registry.load("methods", "ia3").value().trainable_parameters(llama.facts) == 524_288


@pytest.mark.parametrize("bundle", bundle_names())
def test_training_is_the_published_one(bundle: str) -> None:
    suite = small(bundle)
    for entry in suite.methods:
        spec = planned(suite, entry.use)
        assert spec.train.learning_rate == RATES[bundle].get(entry.use, 5e-5)
        prefix = entry.use == "prefix_tuning"
        assert spec.train.per_device_train_batch_size == (2 if prefix and bundle == "published_v1" else 4)
        assert spec.train.validation_share == (0.2 if prefix and bundle == "published_head" else 0.1)
        assert spec.train.eval_steps == (0.1 if prefix and bundle == "published_head" else 0.05)
        assert (spec.train.num_train_epochs, spec.train.max_length) == (10, 2048)
        assert (spec.train.warmup_ratio, spec.train.weight_decay, spec.train.max_grad_norm) == (0.1, 1e-5, 1.0)
        assert (spec.train.lr_scheduler_type, spec.train.checkpoint, spec.train.precision) == ("cosine", "best", "bf16")
        assert spec.evaluate.precision == "bf16"
    assert suite.pscp == PscpSpec()
    assert suite.metrics == "published"


@pytest.mark.parametrize("name", ["peft_bench_v1", "peft_bench_head", "stability"])
def test_published_suites_multiply(name: str) -> None:
    suite = read_suite(name, ["models=tiny", "tasks=toy_mood", "evaluate.max_new_tokens=8"])
    plan = make_plan(suite, Resources())
    seeded = [run for run in plan.runs if run.spec.train]
    # The embedded model's context of 512 has room for a hundred virtual tokens.
    assert len(seeded) == 5 * len([entry for entry in suite.methods if entry.use != "zero_shot"])
    assert {run.spec.seed for run in seeded} == {42, 123, 456, 789, 101112}
    epochs = {run.spec.train.num_train_epochs for run in seeded if run.spec.train}
    assert epochs == ({20} if name == "stability" else {10})
    assert read_suite(name).evaluate.max_new_tokens == 1024


def test_what_a_suite_says_wins() -> None:
    suite = small(
        "published_head",
        methods=["lora", {"use": "prompt-tuning", "train": {"lr": 0.5}}, {"use": "bitfit", "targets": ["up"]}, "full"],
        train={"epochs": 3},
        pscp={"beta_memory": 2},
    )
    assert planned(suite, "lora").method.settings["lora_alpha"] == 16
    assert planned(suite, "lora").train.num_train_epochs == 3
    assert planned(suite, "prompt_tuning").train.learning_rate == 0.5
    assert planned(suite, "prompt_tuning").method.settings["num_virtual_tokens"] == 100
    assert planned(suite, "bitfit").method.settings["targets"] == ["up"]
    assert planned(suite, "full").train.weight_decay == 1e-5
    assert (suite.pscp.beta_memory, suite.pscp.beta_parameters) == (2, 1)


def test_what_is_typed_wins_over_the_bundle() -> None:
    typed = ["train.learning_rate=0.25", "bundle=published_head", "methods=prompt_tuning,lora"]
    suite = build_suite({**ONE, "evaluate": {"max_new_tokens": 8}}, typed)
    assert [entry.use for entry in suite.methods] == ["prompt_tuning", "lora"]
    for method in ("prompt_tuning", "lora"):
        assert planned(suite, method).train.learning_rate == 0.25
    assert planned(suite, "prompt_tuning").method.settings["num_virtual_tokens"] == 100


@pytest.mark.parametrize("bundle", [None, "published_head"])
@pytest.mark.parametrize("typed", [["train.lr=0.25", "train.epochs=7"], ["train={learning_rate: 0.25, epochs: 7}"]])
def test_what_is_typed_wins_over_nested_settings(bundle: str | None, typed: list[str]) -> None:
    nested = {"learning_rate": 0.5, "epochs": 1}
    suite = build_suite(
        {
            "bundle": bundle,
            "tasks": [{"use": "toy_mood", "train": nested}],
            "models": [{"use": "tiny", "train": nested}],
            "methods": [{"use": "lora", "train": nested}, {"use": "full", "train": nested}],
            "evaluate": {"max_new_tokens": 8},
        },
        typed,
    )
    for method in ("lora", "full"):
        train = planned(suite, method).train
        assert (train.learning_rate, train.num_train_epochs) == (0.25, 7)
        assert train.weight_decay == (1e-5 if bundle else 0.0), "what the bundle says besides stays"


@pytest.mark.parametrize("name", suite_names())
def test_a_printed_suite_is_read_back(name: str) -> None:
    suite = read_suite(name)
    assert build_suite(suite.model_dump(mode="json")) == suite


@pytest.mark.parametrize("bundle", [None, "published_v1"])
@pytest.mark.parametrize(
    "own",
    [
        {"train": {"lr": 0.1, "learning_rate": 0.2}},
        {"methods": [{"use": "lora", "train": {"lr": 0.1}, "train.learning_rate": 0.2}]},
    ],
    ids=str,
)
def test_a_setting_that_stands_twice_is_refused(bundle: str | None, own: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match=r"sets '(train\.)?learning_rate' twice"):
        build_suite({**ONE, "methods": "lora", "bundle": bundle, **own})


def test_unknown_bundle() -> None:
    with pytest.raises(UnknownName, match=r"Unknown bundle 'published'.*Did you mean 'published_v1'"):
        build_suite({**ONE, "bundle": "published"})


def test_a_task_is_asked_of_the_methods_it_names() -> None:
    tasks = [{"use": "toy_mood", "methods": ["zero-shot", "LoRA"]}, "toy_more"]
    suite = build_suite({"tasks": tasks, "models": "tiny", "methods": ["zero_shot", "lora", "ia3"]})
    plan = make_plan(suite, Resources())
    assert {(run.spec.task.name, run.spec.method.name) for run in plan.runs} == {
        ("toy_mood", "zero_shot"),
        ("toy_mood", "lora"),
        ("toy_more", "zero_shot"),
        ("toy_more", "lora"),
        ("toy_more", "ia3"),
    }
    assert not plan.set_aside


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        (["lorra"], UnknownName, "Unknown method 'lorra' in task toy_mood. Did you mean 'lora'"),
        ("lora", InvalidSpec, "`methods` has to be a list of names"),
        ([], InvalidSpec, "`methods` has to be a list of names"),
    ],
)
def test_methods_of_a_task_are_checked(methods: Any, error: type[Exception], words: str) -> None:
    suite = build_suite({"tasks": [{"use": "toy_mood", "methods": methods}], "models": "tiny", "methods": ["lora"]})
    with pytest.raises(error, match=words):
        make_plan(suite, Resources())
