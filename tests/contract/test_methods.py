"""Every method keeps every promise, on models of different make; every architecture carries an adapter."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from peftbench import registry
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.methods._peft import PeftMethod, layers
from peftbench.methods.lora import Lora
from peftbench.methods.prompt_tuning import PromptTuning
from peftbench.models._batch import pad
from peftbench.models._roles import ARCHITECTURES
from peftbench.testing import check_method
from peftbench.testing.base import process_settings
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.methods import PROBES
from peftbench.testing.models import tiny
from peftbench.testing.subject import Subject, find_method

METHODS = registry.names("methods")
PEFT_METHODS = [member for member in METHODS if issubclass(registry.load("methods", member).value, PeftMethod)]

# Defaults that are not those of the library, on purpose.
OWN_DEFAULTS = {
    "lora": {"r", "lora_alpha"},  # the rank and the scale (2 r) that most comparisons use
    "prompt_tuning": {"num_virtual_tokens"},  # the library has none
    "p_tuning": {"num_virtual_tokens", "encoder_reparameterization_type"},  # the paper's encoder is an LSTM
    "prefix_tuning": {"num_virtual_tokens", "prefix_projection", "encoder_hidden_size"},  # the paper's is projected
}
# Settings that the library does not have, or has under another name.
OWN_SETTINGS = {
    "targets",
    "target_modules",
    "feedforward_targets",
    "sampled_vocabulary",
}

# Grouped queries and rotary positions; fused, with a bias; learned positions and transposed weights; a short window.
MAKES = ("llama", "gpt_neox", "gpt2", "mistral")
# What cannot be done, and what is said of it before it is tried.
SET_ASIDE = {("prefix_tuning", "mistral"): "a prefix slides out of the attention window of 24 tokens of mistral"}


@pytest.mark.parametrize("model", MAKES)
@pytest.mark.parametrize("method", METHODS)
def test_method_keeps_its_promises(method: str, model: str, fresh: FreshProcess) -> None:
    failed = [check for check in check_method(method, model=model, fresh=fresh) if not check.passed]
    reason = SET_ASIDE.get((method, model))
    assert [check.name for check in failed] == (["fits"] if reason else []), failed
    assert reason is None or reason in failed[0].detail


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ia3", {"feedforward_targets": []}),
        ("ia3", {"target_modules": ["k_proj", "up_proj"], "feedforward_modules": ["up_proj"]}),
        ("bitfit", {"targets": ["query", "value"]}),
        ("bitfit", {"targets": ["norm"]}),
        ("p_tuning", {"encoder_reparameterization_type": "MLP", "encoder_hidden_size": 24}),
        ("p_tuning", {"encoder_dropout": 0.3}),
        ("prefix_tuning", {"prefix_projection": False}),
        ("prefix_tuning", {"init_weights": "zero"}),
        ("prompt_tuning", {"sampled_vocabulary": 40}),
    ],
    ids=str,
)
def test_setting_keeps_its_promises(method: str, settings: dict[str, Any], fresh: FreshProcess) -> None:
    assert not [check for check in check_method(method, settings, fresh=fresh) if not check.passed]


def test_every_check_is_made(fresh: FreshProcess) -> None:
    made = {check.name for check in check_method("lora", fresh=fresh)}
    assert made == {probe.name for probe in PROBES}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in {"zero_shot", "full"}])
def test_adapters_of_a_16_bit_base_are_trained_in_32(method: str, tmp_path: Path) -> None:
    """Steps of a usual size are lost beside a value of 1 in 16 bits; and the base goes on in its own precision."""
    base = tiny("llama", tmp_path / "llama")
    base.model.to(torch.bfloat16)
    batch = pad([[5, 6, 7, 8]], base.device)
    with attached(build(method, registry.load("methods", method).value, {}), base) as adapter:
        assert {value.dtype for value in adapter.trainable.values()} == {torch.float32}
        optimizer = torch.optim.AdamW(adapter.trainable.values(), lr=5e-5, weight_decay=0.0)
        before = adapter.state()
        for autocast in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                logits = adapter.module(**batch.inputs(), use_cache=False).logits
            assert logits.dtype == torch.bfloat16
            logits.float().logsumexp(dim=-1).sum().backward()
            optimizer.step()
        moved = [name for name, value in adapter.state().items() if not torch.equal(value, before[name])]
        assert moved


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({}, 48),
        ({"target_modules": ["mlp.down_proj"]}, 48),
        ({"target_modules": ["layers.1.mlp.down_proj"]}, 48),
        ({"target_modules": ["mlp.down_proj"], "feedforward_modules": []}, 32),
        ({"feedforward_targets": []}, 32),
    ],
    ids=str,
)
def test_ia3_rescales_the_input_of_down(settings: dict[str, Any], width: int, tmp_path: Path) -> None:
    base = tiny("llama", tmp_path / "llama")
    with attached(build("ia3", registry.load("methods", "ia3").value, settings), base) as adapter:
        widths = {max(value.shape) for name, value in adapter.trainable.items() if "down_proj" in name}
    assert widths == {width}, "48 go in, 32 come out"


def test_a_sampled_prompt_starts_at_what_the_model_sees(tmp_path: Path) -> None:
    """Gemma scales its embeddings on the way: a start at the rows themselves would be far too small."""
    base = tiny("gemma3_text", tmp_path / "gemma")
    words = base.model.get_input_embeddings()(torch.arange(40))  # type: ignore[operator]
    with attached(PromptTuning(sampled_vocabulary=40), base) as adapter:
        (prompt,) = adapter.trainable.values()
        distance = (prompt.detach()[:, None] - words[None]).abs().amax(dim=-1).amin(dim=-1)
    assert float(distance.max()) == 0.0


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_base_ignores_padding(model_type: str, fresh: FreshProcess) -> None:
    """What the checks of an untrained method say is said of the architecture itself."""
    assert not [check for check in check_method("zero_shot", model=model_type, fresh=fresh) if not check.passed]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_roles_name_layers(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    modules = [module for module, _ in base.model.named_modules()]
    for role, suffixes in base.facts.roles.items():
        for suffix in suffixes:
            found = [module for module in modules if module == suffix or module.endswith(f".{suffix}")]
            assert found, f"{role}: no module ends with {suffix}"


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_lora_trains_on_every_role(model_type: str, tmp_path: Path, fresh: FreshProcess) -> None:
    base = tiny(model_type, tmp_path / model_type)
    roles = [role for role in base.facts.roles if role != "norm"]
    with contextlib.ExitStack() as stack:
        named = find_method("lora", {"targets": roles})
        subject = Subject(named, base.facts, 1e-2, tmp_path, fresh, process_settings(), stack)
        lent = stack.enter_context(subject.lend())
        adapted = {part for key in lent.adapter.trainable for part in key.split(".")}
        assert all(suffix.rpartition(".")[2] in adapted for suffix in layers(base.facts, roles))
        assert all(math.isfinite(loss) for loss in subject.train(lent, steps=1).losses)


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_defaults_are_those_of_the_library(method: str) -> None:
    cls: type[PeftMethod] = registry.load("methods", method).value
    theirs = {field.name: field.default for field in dataclasses.fields(getattr(peft, cls.config_class))}
    for field in dataclasses.fields(cls):
        if field.name in OWN_SETTINGS:
            continue
        assert field.name in theirs, f"{cls.config_class} has no {field.name}"
        if field.name not in OWN_DEFAULTS.get(method, set()):
            assert field.default == theirs[field.name], field.name


@pytest.mark.parametrize(
    ("method", "settings", "detail"),
    [
        ("lorra", {}, "Unknown method 'lorra'"),
        ("lora", {"rank": 4}, "Unknown hyperparameter 'rank' in method lora"),
        ("lora", {"r": 0}, "r must be at least 1"),
        (
            "ia3",
            {"target_modules": ["k_proj"], "feedforward_modules": ["q_proj"]},
            "'q_proj' is not among target_modules",
        ),
        ("ia3", {"feedforward_modules": ["down_proj"]}, "'down_proj' is not among target_modules"),
        ("ia3", {"feedforward_targets": ["up"]}, "'up' is not among targets"),
        ("ia3", {"feedforward_targets": [], "feedforward_modules": []}, "say the same: give one of them"),
        ("bitfit", {"targets": []}, "targets must name a role"),
        ("p_tuning", {"encoder_reparameterization_type": "GRU"}, "Input should be 'LSTM' or 'MLP'"),
        ("p_tuning", {"encoder_dropout": 1.0}, "encoder_dropout must be at least 0 and below 1"),
        ("p_tuning", {"encoder_num_layers": 0}, "must be at least 1"),
        ("prefix_tuning", {"encoder_hidden_size": 0}, "encoder_hidden_size must be at least 1"),
        ("prefix_tuning", {"num_virtual_tokens": 0}, "num_virtual_tokens must be at least 1"),
        ("prompt_tuning", {"sampled_vocabulary": 0}, "sampled_vocabulary must be at least 1"),
        (int, {}, "METHOD of int is not a dataclass that extends Method"),
    ],
)
def test_what_cannot_be_built_is_one_failed_check(method: Any, settings: dict[str, Any], detail: str) -> None:
    (check,) = check_method(method, settings)
    assert (check.name, check.passed) == ("loads", False)
    assert detail in check.detail
    assert check.fix


def test_fault_of_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    template = (Path(registry.__file__).parent / "methods" / "_template.py").read_text(encoding="utf-8")
    file.write_text(template.replace("import torch\n", "import torch\n        1 / 0\n", 1), encoding="utf-8")
    (failed,) = [check for check in check_method(str(file)) if not check.passed]
    assert failed.name == "attaches"
    assert re.fullmatch(r"mine\.py, line \d+: ZeroDivisionError: .*\.", failed.detail)


def test_file_that_cannot_be_imported_is_one_failed_check(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("METHOD = missing\n", encoding="utf-8")
    (check,) = check_method(str(file))
    assert not check.passed
    assert "line 1: NameError" in check.detail


def test_template_keeps_its_promises(tmp_path: Path, fresh: FreshProcess) -> None:
    file = tmp_path / "mine.py"
    template = Path(registry.__file__).parent / "methods" / "_template.py"
    file.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    assert not [check for check in check_method(str(file), fresh=fresh) if not check.passed]


@pytest.mark.parametrize("method", [Lora(r=2), PromptTuning(num_virtual_tokens=3)], ids=["lora", "prompt_tuning"])
def test_method_may_be_given_as_it_is(method: PeftMethod, fresh: FreshProcess) -> None:
    assert not [check for check in check_method(method, fresh=fresh) if not check.passed]
