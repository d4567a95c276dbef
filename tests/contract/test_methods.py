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
from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached
from peftbench.methods._method import build
from peftbench.methods._peft import PeftMethod, TargetedPeftMethod, layers
from peftbench.methods._variants import variants
from peftbench.methods.lora import Lora
from peftbench.methods.prompt_tuning import PromptTuning
from peftbench.models._batch import pad
from peftbench.models._roles import ARCHITECTURES
from peftbench.testing import check_method
from peftbench.testing.base import process_settings
from peftbench.testing.fresh import FreshProcess
from peftbench.testing.methods import PROBES
from peftbench.testing.models import tiny
from peftbench.testing.quantised import installed
from peftbench.testing.subject import Subject, find_method
from peftbench.testing.toy import toy

METHODS = registry.names("methods")
PEFT_METHODS = [member for member in METHODS if issubclass(registry.load("methods", member).value, PeftMethod)]

# Defaults that are not those of the library, on purpose.
OWN_DEFAULTS = {
    "cartridge": {"num_virtual_tokens"},  # the library has none
    "cpt": {"num_virtual_tokens", "opt_loss_decay_factor"},  # the library has none; the paper's
    "lora": {"r", "lora_alpha", "init_lora_weights"},  # the rank and the scale (2 r) that most comparisons use
    "dora": {"r", "lora_alpha"},  # as lora
    "lora_plus": {"r", "lora_alpha"},  # as lora
    "pissa": {"r", "lora_alpha"},  # the paper's scale is 1
    "qlora": {"r", "lora_alpha", "lora_dropout"},  # the paper's
    "adaption_prompt": {"adapter_len", "adapter_layers"},  # the paper's; the library has none
    "mpt": {"num_virtual_tokens"},  # the library has none
    "p_tuning_v2": {"num_virtual_tokens"},  # the library has none
    "prompt_tuning": {"num_virtual_tokens"},  # the library has none
    "p_tuning": {"num_virtual_tokens", "encoder_reparameterization_type"},  # the paper's encoder is an LSTM
    "prefix_tuning": {"num_virtual_tokens", "prefix_projection", "encoder_hidden_size"},  # the paper's is projected
    "shadow": {"shadow_num_hidden_layers"},  # what the library takes when it is told none
    "shira": {"random_seed"},  # the library's is nobody's to choose
    "trainable_tokens": {"token_indices"},  # the library has none
    "unilora": {"theta_d_length"},  # the library's 256 are for a demonstration
}
# Settings that the library does not have, or has under another name.
OWN_SETTINGS = {
    "targets",
    "target_modules",
    "feedforward_targets",
    "sampled_vocabulary",
    "lora_optimizer",
    "loraplus_lr_ratio",
    "trainable_rank",  # of OSF: the library counts what is kept
    "num_tokens",  # of trainable tokens: the library wants every id
    "tinit_share",
    "tfinal_share",
}

# Grouped queries and rotary positions; fused, with a bias; learned positions and transposed weights; a short window.
MAKES = ("llama", "gpt_neox", "gpt2", "mistral")
# What cannot be done, and what is said of it before it is tried.
SLIDES = "a prefix slides out of the attention window of 24 tokens of mistral"
SET_ASIDE = {
    **{(method, "mistral"): SLIDES for method in ("prefix_tuning", "p_tuning_v2", "cartridge")},
    ("adaption_prompt", "gpt_neox"): "peft's AdaptionPromptConfig does not know the attention of gpt_neox",
}
# What has to be set so that a tiny model can learn: of this prompt a short window shows little, and each embedding
# stays in a ball that is drawn for wide models.
SET = {("cpt", "mistral"): {"opt_projection_epsilon": 4.0}}
# What the library does to linear layers it does to them in any model: others than llama are tried by `make slow`.
LINEAR = [
    name
    for name in METHODS
    if issubclass(cls := registry.load("methods", name).value, TargetedPeftMethod)
    and name not in {"lora", "ia3", "ln_tuning"}
]
CASES = [
    pytest.param(method, model, marks=pytest.mark.slow if model != "llama" and method in {*LINEAR, "ts_peft"} else ())
    for method in METHODS
    for model in MAKES
]


@pytest.mark.parametrize(("method", "model"), CASES)
def test_method_keeps_its_promises(method: str, model: str, fresh: FreshProcess) -> None:
    settings = SET.get((method, model), {})
    failed = [check for check in check_method(method, settings, model=model, fresh=fresh) if not check.passed]
    reason = set_aside(method, model)
    assert [check.name for check in failed] == (["fits"] if reason else []), failed
    assert reason is None or reason in failed[0].detail


def set_aside(method: str, model: str) -> str | None:
    """Why a method is not tried on a model."""
    cls = registry.load("methods", method).value
    if model == "gpt2" and method in LINEAR and not cls.transposes:
        return f"peft's {cls.config_class} does not take the transposed layers of gpt2"
    return SET_ASIDE.get((method, model))


@pytest.mark.parametrize(("method", "model"), [("adaption_prompt", "gpt_neox")])
def test_the_library_itself_does_not_know(method: str, model: str, tmp_path: Path) -> None:
    base = tiny(model, tmp_path / model)
    cls: type[PeftMethod] = registry.load("methods", method).value
    with pytest.raises(ValueError, match="Unsupported model type"):
        peft.get_peft_model(base.model, getattr(peft, cls.config_class)(**cls().peft_settings(base.facts)))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ia3", {"feedforward_targets": []}),
        ("ia3", {"target_modules": ["k_proj", "up_proj"], "feedforward_modules": ["up_proj"]}),
        ("bitfit", {"targets": ["query", "value"]}),
        ("bitfit", {"targets": ["norm"]}),
        ("bottleneck", {"width": 3, "non_linearity": "gelu", "scaling": 2.0}),
        ("sequential", {"width": 40, "non_linearity": "tanh"}),
        ("parallel", {"reduction_factor": 0.5, "non_linearity": "silu", "scaling": -1.0}),
        ("svft", {"pattern": "plain", "targets": ["up", "down"]}),
        ("svft", {"pattern": "banded", "off_diag": 15}),
        ("svft", {"pattern": "random", "off_diag": 2, "seed": 7}),
        ("svft", {"pattern": "top_k", "off_diag": 0}),
        ("last_layers", {"blocks": 2}),
        ("p_tuning", {"encoder_reparameterization_type": "MLP", "encoder_hidden_size": 24}),
        ("p_tuning", {"encoder_dropout": 0.3}),
        ("prefix_tuning", {"prefix_projection": False}),
        ("prefix_tuning", {"init_weights": "zero"}),
        ("prompt_tuning", {"sampled_vocabulary": 40}),
        ("adalora", {"tinit_share": 0.0, "tfinal_share": 0.97, "orth_reg_weight": 0.0}),
        ("adamss", {"subspace_rank": 3, "r": 7}),
        ("c3a", {"init_weights": True, "block_size": 5}),
        ("deft", {"decomposition_method": "qr", "r": 40}),
        ("glora", {"config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"}),
        ("galore", {"r": 2, "update_proj_gap": 4, "scale": 0.5}),
        ("gralora", {"r": 8, "hybrid_r": 3, "gralora_k": 4}),
        ("lokr", {"decompose_both": True, "decompose_factor": 4, "r": 1}),
        ("lily", {"stride_A": 2, "num_B": 3, "scaling": 4.0}),
        ("oft", {"oft_block_size": 8, "block_share": True, "use_cayley_neumann": False}),
        ("oft", {"oft_block_size": 5, "module_dropout": 0.5}),
        ("osf", {"trainable_rank": 20}),
        ("osf", {"effective_rank": 3, "targets": ["down", "value"]}),
        ("peanut", {"depth": 2, "act_fn": "gelu"}),
        ("poly", {"n_skills": 2, "n_splits": 4}),
        ("psoft", {"r": 6, "psoft_svd": "lowrank", "use_cayley_neumann": True}),
        ("psoft", {"r": 1, "psoft_orth": False, "psoft_mag_b": False}),
        ("randlora", {"r": 5, "randlora_alpha": 5, "very_sparse": True}),
        ("road", {"variant": "road_4", "targets": ["down", "up"]}),
        ("shadow", {"shadow_num_hidden_layers": 2, "r": 3}),
        ("supertuning", {"r": 3, "lora_dropout": 0.1, "sparsity": 0.9}),
        ("tinylora", {"weight_tying": 0.4, "u": 13}),
        ("trainable_tokens", {"token_indices": [5, 6, 7, 8, 9]}),
        ("ts_peft", {"over": "dora", "sparsity": 2.0, "warmup": 0.1, "threshold_lr_ratio": 3.0}),
        ("ts_peft", {"over": {"use": "bottleneck", "width": 3}}),
        ("ts_peft", {"over": "ia3", "sparsity": 0.0}),
        ("ts_peft", {"over": {"use": "lokr", "r": 2}, "kernel": 1.0}),
        ("vblora", {"r": 3, "topk": 3, "vector_length": 7, "targets": ["down", "up"]}),
        ("waveft", {"wavelet_family": "sym3", "n_frequency": 100, "scaling": 5.0}),
        ("waveft", {"use_idwt": False}),
    ],
    ids=str,
)
def test_setting_keeps_its_promises(method: str, settings: dict[str, Any], fresh: FreshProcess) -> None:
    assert not [check for check in check_method(method, settings, fresh=fresh) if not check.passed]


@pytest.mark.parametrize("model", ["llama", pytest.param("gpt_neox", marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", [name for _, name, _ in variants()])
def test_variant_keeps_its_promises(variant: str, model: str, fresh: FreshProcess) -> None:
    assert not [check for check in check_method(variant, model=model, fresh=fresh) if not check.passed]


def test_every_check_is_made(fresh: FreshProcess) -> None:
    made = {check.name for check in check_method("lora", fresh=fresh)}
    assert made == {probe.name for probe in PROBES} - (set() if installed() else {"quantised base"})


# These train the base's own weights, as they are.
IN_PLACE = {"full", "galore", "last_layers"}
# These train nothing.
UNTRAINED = {"zero_shot", "few_shot"}
# The library computes these in the precision of the base; the prompts are far from where they go, and steps are large.
IN_16_BITS = {"adaption_prompt"}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in {*UNTRAINED, *IN_PLACE, *IN_16_BITS}])
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


@pytest.mark.parametrize("method", [name for name in LINEAR if set_aside(name, "gpt2")])
def test_what_is_said_of_transposed_layers_is_true(method: str, tmp_path: Path) -> None:
    """The library raises, or finds nothing to train."""
    base = tiny("gpt2", tmp_path / "gpt2")
    made = build(method, registry.load("methods", method).value, {})
    refusals = (TypeError, ValueError, NotImplementedError, AttributeError, MethodProblem)
    with pytest.raises(refusals), attached(made, base) as adapter:
        adapter.module(input_ids=torch.tensor([[5, 6, 7]]))


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
        ("bottleneck", {"width": 0}, "width must be at least 1"),
        ("sequential", {"init_std": 0.0}, "init_std must be above 0"),
        ("parallel", {"reduction_factor": 0.0}, "reduction_factor must be above 0"),
        ("parallel", {"scaling": 0.0}, "scaling must not be 0"),
        ("parallel", {"non_linearity": "swish"}, "Input should be 'relu', 'gelu', 'silu' or 'tanh'"),
        ("svft", {"targets": []}, "targets must name a role"),
        ("svft", {"targets": ["norm"]}, "norm is none"),
        ("svft", {"off_diag": -1}, "off_diag must be at least 0"),
        ("svft", {"pattern": "diagonal"}, "Input should be 'plain', 'banded', 'random' or 'top_k'"),
        ("svft", {"seed": -1}, "seed must be at least 0"),
        ("last_layers", {"blocks": 0}, "blocks must be at least 1"),
        ("galore", {"update_proj_gap": 0}, "r and update_proj_gap must be at least 1"),
        ("galore", {"scale": 0.0}, "scale must be above 0"),
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


@pytest.mark.parametrize("method", ["lora", "corda", "adalora", "ia3", "vera", "ts_peft"])
@pytest.mark.parametrize(("saved", "attached_to"), [(("query",), ("query", "value")), (("query", "value"), ("query",))])
def test_what_fits_a_part_of_it_is_not_loaded(
    method: str, saved: tuple[str, ...], attached_to: tuple[str, ...], tmp_path: Path
) -> None:
    """The library would take what it finds, and leave the rest as it was drawn."""
    base, folder = tiny("llama", tmp_path / "llama"), tmp_path / "adapter"
    base = base.showing(toy(base.chat.end_id).train)
    folder.mkdir()

    def made(targets: tuple[str, ...]) -> Any:
        own = {"over": {"use": "lora", "targets": list(targets)}} if method == "ts_peft" else {"targets": list(targets)}
        return find_method(method, own).method

    with attached(made(saved), base) as adapter:
        adapter.method.save(adapter.module, base, folder)
        adapter.method.load(adapter.module, base, folder)
    with (
        attached(made(attached_to), base) as adapter,
        pytest.raises(MethodProblem, match=r"The adapter in .* (lacks|has) "),
    ):
        adapter.method.load(adapter.module, base, folder)
