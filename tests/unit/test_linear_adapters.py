"""Methods of `peft` that change linear layers: what they train, by the arithmetic of their papers; sizes that fit."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from peftbench import registry
from peftbench.errors import MethodProblem, MissingExtra
from peftbench.methods._attach import attached
from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts, Method, build
from peftbench.methods._peft import PeftMethod, peft_model
from peftbench.models._roles import ARCHITECTURES
from peftbench.shapes import Shapes
from peftbench.testing.models import tiny

SQUARE = {"q_proj": (8, 8), "k_proj": (8, 8), "v_proj": (8, 8), "o_proj": (8, 8)}


def facts(layers: int = 1, biased: tuple[str, ...] = (), **linear: tuple[int, int]) -> Facts:
    shapes = Shapes(
        layers=layers,
        hidden=8,
        vocabulary=50,
        heads=2,
        key_value_heads=2,
        head_size=4,
        linear={**SQUARE, **linear},
        biased=biased,
        norms=3,
        block_norms=1,
        norms_shift=False,
        inside_attention=0,
        table=8,
        head_bias=0,
        others=0,
    )
    known = {"name": "m", "model_type": "llama", "context": 64, "hidden_size": 8}
    known |= {"quantization": None, "transposed": False}
    return cast("Facts", SimpleNamespace(**known, shapes=shapes, roles=ARCHITECTURES["llama"]))


def method(name: str, settings: dict[str, Any]) -> Method:
    return build(name, registry.load("methods", name).value, settings)


def trained(name: str, settings: dict[str, Any], inputs: int, outputs: int, *, bias: bool = False) -> int | None:
    """What is trained in one layer of these sizes."""
    model = facts(up_proj=(inputs, outputs), biased=("up_proj",) if bias else ())
    return method(name, {"targets": ["up"], **settings}).trainable_parameters(model)


@pytest.mark.parametrize(
    ("name", "settings", "inputs", "outputs", "count"),
    [
        # Two pairs of [r, inputs] and [outputs, r].
        ("loha", {"r": 2}, 10, 20, 2 * (2 * 10 + 20 * 2)),
        ("loha", {"r": 3}, 10, 20, 2 * (3 * 10 + 20 * 3)),
        ("loha", {"r": 2}, 11, 20, 2 * (2 * 11 + 20 * 2)),
        ("loha", {"r": 2}, 10, 21, 2 * (2 * 10 + 21 * 2)),
        # 36 = 6 * 6, 48 = 6 * 8, 37 = 1 * 37: C [small, small], B A [large, r] [r, large], or whole from half on.
        ("lokr", {"r": 2}, 36, 48, 6 * 6 + 2 * (8 + 6)),
        ("lokr", {"r": 3}, 36, 48, 6 * 6 + 3 * (8 + 6)),
        ("lokr", {"r": 4}, 36, 48, 6 * 6 + 8 * 6),
        ("lokr", {"r": 2}, 37, 48, 6 * 1 + 2 * (8 + 37)),
        ("lokr", {"r": 2}, 36, 36, 6 * 6 + 2 * (6 + 6)),
        ("lokr", {"r": 2, "decompose_both": True}, 36, 48, 2 * (6 + 6) + 2 * (8 + 6)),
        ("lokr", {"r": 2, "decompose_factor": 4}, 36, 48, 4 * 4 + 2 * (12 + 9)),
        ("lokr", {"r": 2, "decompose_factor": 5}, 36, 48, 4 * 4 + 2 * (12 + 9)),
        # A divisor is taken even where the other one is smaller: 36 = 12 * 3, 48 = 12 * 4.
        ("lokr", {"r": 1, "decompose_factor": 12}, 36, 48, 12 * 12 + 1 * (4 + 3)),
        # [r, inputs] and [outputs, r].
        ("hira", {"r": 2}, 10, 20, 2 * 10 + 20 * 2),
        ("hira", {"r": 3}, 10, 20, 3 * 10 + 20 * 3),
        ("hira", {"r": 2}, 11, 20, 2 * 11 + 20 * 2),
        ("hira", {"r": 2}, 10, 21, 2 * 10 + 21 * 2),
        # A vector over the inputs for each reflection.
        ("hra", {"r": 2}, 10, 20, 10 + 10),
        ("hra", {"r": 4}, 10, 20, 10 + 10 + 10 + 10),
        ("hra", {"r": 2}, 11, 20, 11 + 11),
        ("hra", {"r": 2}, 10, 21, 10 + 10),
        # LoRA's matrices, and lambda.
        ("delora", {"r": 2}, 10, 20, 2 * 10 + 20 * 2 + 1),
        ("delora", {"r": 3}, 10, 20, 3 * 10 + 20 * 3 + 1),
        ("delora", {"r": 2}, 11, 20, 2 * 11 + 20 * 2 + 1),
        ("delora", {"r": 2}, 10, 21, 2 * 10 + 21 * 2 + 1),
        # P [outputs, r] and R [r, inputs]; a layer of two outputs has two directions.
        ("deft", {"r": 3}, 10, 20, 20 * 3 + 3 * 10),
        ("deft", {"r": 4}, 10, 20, 20 * 4 + 4 * 10),
        ("deft", {"r": 3}, 11, 20, 20 * 3 + 3 * 11),
        ("deft", {"r": 3}, 10, 21, 21 * 3 + 3 * 10),
        ("deft", {"r": 3}, 10, 2, 2 * 2 + 2 * 10),
        # k rows of A [inputs / k, r] and k columns of B [r, outputs / k]: as much as LoRA, whatever k.
        ("gralora", {"r": 4, "gralora_k": 2}, 10, 20, 2 * (5 * 4) + 2 * (4 * 10)),
        ("gralora", {"r": 6, "gralora_k": 2}, 10, 20, 2 * (5 * 6) + 2 * (6 * 10)),
        ("gralora", {"r": 4, "gralora_k": 2}, 12, 20, 2 * (6 * 4) + 2 * (4 * 10)),
        ("gralora", {"r": 4, "gralora_k": 2}, 10, 22, 2 * (5 * 4) + 2 * (4 * 11)),
        ("gralora", {"r": 4, "gralora_k": 2, "hybrid_r": 1}, 10, 20, 2 * (5 * 4) + 2 * (4 * 10) + 10 + 20),
        # (inputs / b) (outputs / b) blocks of b numbers.
        ("c3a", {"block_size": 4}, 12, 20, 3 * 5 * 4),
        ("c3a", {"block_size": 2}, 12, 20, 6 * 10 * 2),
        ("c3a", {"block_size": 4}, 16, 20, 4 * 5 * 4),
        ("c3a", {"block_size": 4}, 12, 24, 3 * 6 * 4),
        # inputs / b blocks of [b, b], and a scale for each output.
        ("boft", {"boft_block_size": 4}, 12, 20, 3 * 16 + 20),
        ("boft", {"boft_block_size": 6}, 12, 20, 2 * 36 + 20),
        ("boft", {"boft_block_size": 4}, 16, 20, 4 * 16 + 20),
        ("boft", {"boft_block_size": 4}, 12, 21, 3 * 16 + 21),
        # One matrix [r, outputs] for all shards.
        ("miss", {"r": 4}, 12, 20, 4 * 20),
        ("miss", {"r": 5}, 12, 20, 5 * 20),
        ("miss", {"r": 4}, 13, 20, 4 * 20),
        ("miss", {"r": 4}, 12, 21, 4 * 21),
        # The coefficients, whatever the layer.
        ("fourierft", {"n_frequency": 30}, 12, 20, 30),
        ("fourierft", {"n_frequency": 31}, 12, 20, 31),
        ("fourierft", {"n_frequency": 30}, 13, 21, 30),
        # L [inputs], and a share of the entries of [inputs, inputs], at least one and none of the diagonal.
        ("frod", {"sparse_rate": 0.1}, 10, 20, 10 + 10),
        ("frod", {"sparse_rate": 0.2}, 10, 20, 10 + 20),
        ("frod", {"sparse_rate": 0.1}, 20, 20, 20 + 40),
        ("frod", {"sparse_rate": 0.1}, 10, 21, 10 + 10),
        ("frod", {"sparse_rate": 0.001}, 10, 20, 10 + 1),
        ("frod", {"sparse_rate": 1.0}, 10, 20, 10 + 90),
        # P [outputs, r], E [r], Q [r, inputs], of the rank to start with.
        ("adalora", {"init_r": 3, "target_r": 2}, 10, 20, 20 * 3 + 3 + 3 * 10),
        ("adalora", {"init_r": 4, "target_r": 2}, 10, 20, 20 * 4 + 4 + 4 * 10),
        ("adalora", {"init_r": 3, "target_r": 1}, 10, 20, 20 * 3 + 3 + 3 * 10),
        ("adalora", {"init_r": 3, "target_r": 2}, 11, 20, 20 * 3 + 3 + 3 * 11),
        ("adalora", {"init_r": 3, "target_r": 2}, 10, 21, 21 * 3 + 3 + 3 * 10),
        # A [1, r] for each of K groups, B [1] for each output; r at most a width, K at most the outputs.
        ("adamss", {"r": 6, "num_subspaces": 3}, 10, 20, 3 * 6 + 20),
        ("adamss", {"r": 7, "num_subspaces": 3}, 10, 20, 3 * 7 + 20),
        ("adamss", {"r": 6, "num_subspaces": 4}, 10, 20, 4 * 6 + 20),
        ("adamss", {"r": 6, "num_subspaces": 3}, 5, 20, 3 * 5 + 20),
        ("adamss", {"r": 6, "num_subspaces": 3}, 10, 21, 3 * 6 + 21),
        ("adamss", {"r": 6, "num_subspaces": 3}, 10, 2, 2 * 2 + 2),
        # A and B, each [outputs, r] and [r, inputs], [outputs], or a number.
        ("glora", {"r": 2}, 10, 20, 2 * (20 * 2 + 2 * 10)),
        ("glora", {"r": 3}, 10, 20, 2 * (20 * 3 + 3 * 10)),
        ("glora", {"r": 2}, 11, 20, 2 * (20 * 2 + 2 * 11)),
        ("glora", {"r": 2}, 10, 21, 2 * (21 * 2 + 2 * 10)),
        ("glora", {"config_A_B": "vector"}, 10, 20, 2 * 20),
        ("glora", {"config_A_B": "constant"}, 10, 20, 2),
    ],
)
def test_what_is_trained_in_a_layer(name: str, settings: dict[str, Any], inputs: int, outputs: int, count: int) -> None:
    assert trained(name, settings, inputs, outputs) == count


@pytest.mark.parametrize(
    ("name", "settings", "more"),
    [
        # C is [inputs, r] and [r, 1], or [inputs]; D and E are a number or [outputs] each.
        ("glora", {"r": 2}, (10 * 2 + 2) + 2),
        ("glora", {"r": 3}, (10 * 3 + 3) + 2),
        ("glora", {"config_C": "vector"}, 10 + 2),
        ("glora", {"config_C": "none"}, 2),
        ("glora", {"r": 2, "config_D_E": "vector"}, (10 * 2 + 2) + 2 * 20),
        ("glora", {"config_C": "none", "config_D_E": "none"}, 0),
        # A bias is one more input, and so one more direction where there were too few.
        ("adamss", {"r": 11, "num_subspaces": 3}, 3 * 1),
        ("adamss", {"r": 10, "num_subspaces": 3}, 0),
    ],
)
def test_what_a_bias_adds(name: str, settings: dict[str, Any], more: int) -> None:
    without, biased = trained(name, settings, 10, 20), trained(name, settings, 10, 20, bias=True)
    assert without is not None
    assert biased == without + more


NAMES: tuple[str, ...] = (
    *("adalora", "adamss", "boft", "c3a", "deft", "delora", "fourierft", "frod"),
    *("glora", "gralora", "hira", "hra", "loha", "lokr", "miss"),
)
# Of the size that says how much is trained, at most this fits.
FITTING: dict[str, dict[str, Any]] = {"gralora": {"r": 4}, "c3a": {"block_size": 4}, "miss": {"r": 4}}


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_targets_add_up(name: str) -> None:
    one = method(name, {"targets": ["query"], **FITTING.get(name, {})})
    all_four = method(name, FITTING.get(name, {}))
    in_one, in_three = one.trainable_parameters(facts(1)), one.trainable_parameters(facts(3))
    assert in_one
    assert in_three == 3 * in_one
    assert all_four.trainable_parameters(facts(1)) == 4 * in_one
    assert method(name, {"target_modules": ["elsewhere"]}).trainable_parameters(facts()) is None
    assert method(name, {}).unfit(facts()) is None


@pytest.mark.parametrize(
    ("wanted", "widths", "size"),
    [
        (256, [576, 192], 192),
        (256, [4096, 1024], 256),
        (100, [576, 192], 96),
        (4, [75, 33], 3),
        (5, [], 5),
        (9, [7], 7),
    ],
)
def test_the_largest_block_that_fits(wanted: int, widths: list[int], size: int) -> None:
    assert largest_divisor(widths, wanted) == size


@pytest.mark.parametrize(
    ("name", "settings", "linear", "fitted"),
    [
        ("c3a", {}, {"k_proj": (576, 192), "up_proj": (576, 1536)}, {"block_size": 192}),
        ("c3a", {"block_size": 100}, {"k_proj": (576, 192), "up_proj": (576, 1536)}, {"block_size": 96}),
        # The outputs do not matter: the input is turned.
        ("boft", {}, {"k_proj": (72, 7), "up_proj": (108, 5)}, {"boft_block_size": 4}),
        ("boft", {"boft_block_size": 8}, {"k_proj": (72, 7), "up_proj": (108, 5)}, {"boft_block_size": 6}),
        ("gralora", {}, {"k_proj": (576, 192), "up_proj": (576, 1536)}, {"gralora_k": 2, "r": 32}),
        ("gralora", {"gralora_k": 4}, {"k_proj": (6, 10), "up_proj": (6, 12)}, {"gralora_k": 2, "r": 32}),
        ("gralora", {"r": 9, "gralora_k": 3}, {"k_proj": (6, 10), "up_proj": (6, 12)}, {"gralora_k": 1, "r": 9}),
        ("miss", {}, {"k_proj": (32, 16), "up_proj": (48, 16)}, {"r": 32}),
        ("fourierft", {}, {"k_proj": (32, 16), "up_proj": (48, 16)}, {"n_frequency": 512}),
        ("fourierft", {"n_frequency": 7}, {"k_proj": (32, 16), "up_proj": (48, 16)}, {"n_frequency": 7}),
    ],
)
def test_sizes_are_fitted_to_the_model(
    name: str, settings: dict[str, Any], linear: dict[str, tuple[int, int]], fitted: dict[str, int]
) -> None:
    made = method(name, {"targets": ["key", "up"], **settings})
    assert isinstance(made, PeftMethod)
    found = made.peft_settings(facts(k_proj=linear["k_proj"], up_proj=linear["up_proj"]))
    assert {key: found[key] for key in fitted} == fitted


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [("boft", {}, "divides the inputs"), ("c3a", {}, "divides all widths"), ("c3a", {"block_size": 1}, None)],
)
def test_a_model_without_a_common_block(name: str, settings: dict[str, Any], words: str | None) -> None:
    said = method(name, {"targets": ["key", "up"], **settings}).unfit(facts(k_proj=(75, 50), up_proj=(8, 33)))
    assert (said is None) if words is None else (words in str(said))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "frod"])
def test_another_size_trains_as_much_as_is_wanted(name: str) -> None:
    model = facts(k_proj=(96, 48), up_proj=(96, 144))
    made = method(name, {"targets": ["key", "up"], **FITTING.get(name, {})})
    sizes = made.sizes(model)
    counts = [made.with_size(size).trainable_parameters(model) or 0 for size in sizes]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    for place in (0, len(counts) // 2, -1):
        assert made.resized(model, counts[place]).trainable_parameters(model) == counts[place]


def test_frod_has_no_size() -> None:
    with pytest.raises(MethodProblem, match="has no size to choose"):
        method("frod", {}).resized(facts(), 100)


@pytest.mark.parametrize(
    ("name", "size", "scaled"),
    [
        ("loha", 16, {"alpha": 16}),
        ("lokr", 16, {"alpha": 16}),
        ("gralora", 16, {"alpha": 32}),
        ("adalora", 24, {"target_r": 16, "lora_alpha": 16}),
        ("adalora", 2, {"target_r": 1, "lora_alpha": 1}),
    ],
)
def test_a_scale_goes_with_the_size(name: str, size: int, scaled: dict[str, int]) -> None:
    settings = method(name, {}).with_size(size).settings()
    assert {key: settings[key] for key in scaled} == scaled


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("loha", {"r": 0}, "r must be at least 1"),
        ("lokr", {"decompose_factor": 0}, "or -1 for the square root"),
        ("hira", {"hira_dropout": 1.0}, "below 1"),
        ("hra", {"r": 3}, "even number"),
        ("delora", {"delora_lambda": 0}, "delora_lambda must be at least 1"),
        ("deft", {"decomposition_method": "svd"}, "'relu' or 'qr'"),
        ("gralora", {"r": 5}, "multiple of gralora_k"),
        ("gralora", {"gralora_k": 0}, "gralora_k must be at least 1"),
        ("c3a", {"block_size": 0}, "block_size must be at least 1"),
        ("c3a", {"init_weights": "zero"}, "init_weights"),
        ("boft", {"boft_block_size": 1}, "at least 2"),
        ("miss", {"r": 0}, "r must be at least 1"),
        ("fourierft", {"n_frequency": 0}, "n_frequency must be at least 1"),
        ("glora", {"config_A_B": "none"}, "nothing to train"),
        ("frod", {"sparse_rate": 0.0}, "above 0 and at most 1"),
        ("frod", {"regularization_alpha": 0.0}, "regularization_alpha must be above 0"),
        ("adamss", {"num_subspaces": 0}, "num_subspaces must be at least 1"),
        ("adalora", {"target_r": 12}, "below init_r"),
        ("adalora", {"tinit_share": 0.5, "tfinal_share": 0.5}, "below 1 together"),
        ("adalora", {"deltaT": 0}, "deltaT must be at least 1"),
        ("adalora", {"beta1": 1.0}, "between 0 and 1"),
        ("adalora", {"orth_reg_weight": -1.0}, "orth_reg_weight must be at least 0"),
    ],
)
def test_senseless_values_are_a_sentence(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodProblem) as caught:
        method(name, settings)
    assert words in caught.value.message


def test_adamss_counts_only_what_does_not_depend_on_the_groups() -> None:
    assert method("adamss", {"subspace_rank": 2}).trainable_parameters(facts()) is None


def test_adamss_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("llama", tmp_path / "llama")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match="scikit-learn") as caught, attached(method("adamss", {}), base):
        pass
    assert "peftbench[adamss]" in caught.value.fix


@pytest.mark.parametrize("name", NAMES)
def test_attaching_is_quiet(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("llama", tmp_path / "llama")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with attached(method(name, {}), base) as adapter:
            adapter.module(input_ids=torch.tensor([[5, 6, 7]]))
    assert capfd.readouterr() == ("", "")


def schedule(steps: int, **settings: Any) -> tuple[int, int, int]:
    config = SimpleNamespace(total_step=1, tinit=0, tfinal=0)
    made = method("adalora", settings)
    made.begin(cast("torch.nn.Module", SimpleNamespace(peft=SimpleNamespace(active_peft_config=config))), steps)
    return config.total_step, config.tinit, config.tfinal


@pytest.mark.parametrize(
    ("steps", "settings", "wanted"),
    [
        (1000, {}, (1000, 100, 500)),
        (30, {}, (30, 3, 15)),
        (5, {}, (5, 0, 2)),
        (2, {}, (2, 0, 0)),
        (1, {}, (1, 0, 0)),
        (10, {"tinit_share": 0.0, "tfinal_share": 0.95}, (10, 0, 8)),
        (5, {"tinit_share": 0.9, "tfinal_share": 0.0}, (5, 3, 0)),
    ],
)
def test_adalora_fits_its_schedule_to_the_run(
    steps: int, settings: dict[str, Any], wanted: tuple[int, int, int]
) -> None:
    assert schedule(steps, **settings) == wanted


def test_adalora_takes_ranks_away(tmp_path: Path) -> None:
    """From 4 ranks in 8 layers to 2 on average, which are zeros: the step that decides and those after it."""
    base = tiny("llama", tmp_path / "llama")
    made = method("adalora", {"init_r": 4, "target_r": 2, "orth_reg_weight": 0.0})
    torch.manual_seed(0)
    with attached(made, base) as adapter:
        made.begin(adapter.module, 10)
        optimizer = torch.optim.AdamW(adapter.trainable.values(), lr=1e-2)
        kept = []
        for step in range(1, 11):
            adapter.module(input_ids=torch.tensor([[5, 6, 7]])).logits.logsumexp(dim=-1).sum().backward()
            optimizer.step()
            made.after_step(adapter.module, step)
            optimizer.zero_grad()
            diagonals = [value for name, value in adapter.trainable.items() if "lora_E" in name]
            kept.append(sum(int(value.count_nonzero()) for value in diagonals))
        # Ten steps, of which one is the beginning and five the end: the budget falls as (1 - progress) cubed.
        assert kept[0] == 4 * 8
        assert kept == sorted(kept, reverse=True)
        assert kept[4:] == [2 * 8] * 6
        folder = tmp_path / "adapter"
        folder.mkdir()
        made.save(adapter.module, base, folder)
        assert peft_model(adapter.module).active_peft_config.rank_pattern is not None
    with attached(made, base) as fresh:
        made.load(fresh.module, base, folder)


def test_adalora_draws_its_factors_to_orthogonal_ones(tmp_path: Path) -> None:
    base = tiny("llama", tmp_path / "llama")
    made = method("adalora", {"init_r": 4, "target_r": 2, "targets": ["query"], "orth_reg_weight": 0.25})
    with attached(made, base) as adapter:
        for name, value in adapter.trainable.items():
            with torch.no_grad():
                # P of ones has a Gram matrix of 32 everywhere; Q of orthonormal rows has none to mend.
                value.copy_(torch.eye(*value.shape) if "lora_A" in name else torch.ones_like(value))
        penalty = made.penalty(adapter.module)
        assert penalty is not None
        # Two layers with P and Q each: off the diagonal 12 times 32, on it 4 times 31.
        distance = (12 * 32**2 + 4 * 31**2) ** 0.5
        assert float(penalty.detach()) == pytest.approx(0.25 * (2 * distance + 2 * 0) / 4, rel=1e-5)
        penalty.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        assert method("adalora", {"orth_reg_weight": 0.0}).penalty(adapter.module) is None
