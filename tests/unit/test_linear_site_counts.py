"""What methods on linear layers train, worked out by hand from what they say of themselves, one dimension at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts, Method, build
from peftbench.models._roles import ARCHITECTURES
from peftbench.shapes import Shapes

LAYERS, INPUTS, OUTPUTS = 2, 12, 8


def facts(layers: int = LAYERS, inputs: int = INPUTS, outputs: int = OUTPUTS, **others: Any) -> Facts:
    """A model whose query is the one layer that is looked at."""
    shapes = Shapes(
        layers=layers,
        hidden=inputs,
        vocabulary=100,
        heads=2,
        key_value_heads=1,
        head_size=4,
        linear={"q_proj": (inputs, outputs), "k_proj": (10, 6)},
        biased=(),
        norms=2 * layers + 1,
        block_norms=1,
        norms_shift=False,
        inside_attention=0,
        table=8,
        head_bias=0,
        others=200 * inputs,
    )
    known = {
        "name": "m",
        "model_type": "llama",
        "context": 64,
        "hidden_size": inputs,
        "quantization": None,
        "roles": ARCHITECTURES["llama"],
        "shapes": shapes,
        "transposed": others.get("model_type") == "gpt2",
    }
    return cast("Facts", SimpleNamespace(**{**known, **others}))


def method(name: str, **settings: Any) -> Any:
    return build(name, registry.load("methods", name).value, settings)


COUNTS: list[tuple[str, dict[str, Any], dict[str, int], int]] = [
    # 12 inputs in blocks of 4 are 3 blocks, and a skew-symmetric 4 x 4 matrix has 6 numbers.
    ("oft", {"oft_block_size": 4}, {}, 2 * 3 * 6),
    ("oft", {"oft_block_size": 4}, {"layers": 3}, 3 * 3 * 6),
    ("oft", {"oft_block_size": 4}, {"inputs": 24}, 2 * 6 * 6),
    ("oft", {"oft_block_size": 4}, {"outputs": 16}, 2 * 3 * 6),
    ("oft", {"oft_block_size": 6}, {}, 2 * 2 * 15),
    ("oft", {"oft_block_size": 4, "block_share": True}, {}, 2 * 1 * 6),
    ("oft", {"oft_block_size": 5}, {}, 2 * 3 * 6),
    # Of 8 directions 4 are kept: 4 columns of 8, 4 values, 4 rows of 12.
    ("osf", {}, {}, 2 * (4 * 8 + 4 + 4 * 12)),
    ("osf", {}, {"layers": 3}, 3 * (4 * 8 + 4 + 4 * 12)),
    ("osf", {}, {"inputs": 14}, 2 * (4 * 8 + 4 + 4 * 14)),
    ("osf", {}, {"outputs": 10}, 2 * (5 * 10 + 5 + 5 * 12)),
    ("osf", {}, {"outputs": 9}, 2 * (5 * 9 + 5 + 5 * 12)),
    ("osf", {"effective_rank": 6}, {}, 2 * (2 * 8 + 2 + 2 * 12)),
    ("osf", {"trainable_rank": 1}, {}, 2 * (8 + 1 + 12)),
    ("osf", {"trainable_rank": 99}, {}, 2 * (7 * 8 + 7 + 7 * 12)),
    # A [8, 4] and B [4, 8], and each pair of hidden layers 2 x 4 x 4.
    ("peanut", {"r": 4}, {}, 2 * (32 + 32)),
    ("peanut", {"r": 4}, {"layers": 3}, 3 * (32 + 32)),
    ("peanut", {"r": 4}, {"inputs": 14}, 2 * (32 + 32)),
    ("peanut", {"r": 4}, {"outputs": 10}, 2 * (40 + 40)),
    ("peanut", {"r": 5}, {}, 2 * (40 + 40)),
    ("peanut", {"r": 4, "depth": 3}, {}, 2 * (32 + 32 + 3 * 2 * 16)),
    # A skew-symmetric 4 x 4 matrix has 6 numbers; two vectors of 4.
    ("psoft", {"r": 4}, {}, 2 * (6 + 4 + 4)),
    ("psoft", {"r": 4}, {"layers": 3}, 3 * (6 + 4 + 4)),
    ("psoft", {"r": 4}, {"inputs": 14, "outputs": 10}, 2 * (6 + 4 + 4)),
    ("psoft", {"r": 5}, {}, 2 * (10 + 5 + 5)),
    ("psoft", {"r": 4, "psoft_mag_a": False}, {}, 2 * (6 + 4)),
    ("psoft", {"r": 4, "psoft_mag_a": False, "psoft_mag_b": False}, {}, 2 * 6),
    ("psoft", {"r": 4, "psoft_orth": False}, {}, 2 * (16 + 4 + 4)),
    ("psoft", {"r": 32}, {}, 2 * (28 + 8 + 8)),
    # d is twice the rank long, b as long as the output.
    ("pvera", {"r": 4}, {}, 2 * (8 + 8)),
    ("pvera", {"r": 4}, {"layers": 3}, 3 * (8 + 8)),
    ("pvera", {"r": 4}, {"inputs": 14}, 2 * (8 + 8)),
    ("pvera", {"r": 4}, {"outputs": 10}, 2 * (8 + 10)),
    ("pvera", {"r": 5}, {}, 2 * (10 + 8)),
    # The narrower side of 8 takes two bases of rank 4, each with 4 and 8 numbers.
    ("randlora", {"r": 4}, {}, 2 * 2 * (4 + 8)),
    ("randlora", {"r": 4}, {"layers": 3}, 3 * 2 * (4 + 8)),
    ("randlora", {"r": 4}, {"inputs": 14}, 2 * 2 * (4 + 8)),
    ("randlora", {"r": 4}, {"outputs": 10}, 2 * 3 * (4 + 10)),
    ("randlora", {"r": 4}, {"outputs": 20}, 2 * 3 * (4 + 12)),
    ("randlora", {"r": 8}, {}, 2 * 1 * (8 + 8)),
    ("randlora", {"r": 9}, {}, 2 * 1 * (9 + 8)),
    # 4 pairs of outputs, each with an angle and a scale.
    ("road", {}, {}, 2 * 4 * 2),
    ("road", {}, {"layers": 3}, 3 * 4 * 2),
    ("road", {}, {"inputs": 14}, 2 * 4 * 2),
    ("road", {}, {"outputs": 10}, 2 * 5 * 2),
    ("road", {"variant": "road_2"}, {}, 2 * 4 * 4),
    ("road", {"variant": "road_4"}, {}, 2 * 4 * 8),
    # As LoRA: 2 x (12 + 8); 96 entries are enough for rank 4 and no more.
    ("shira", {"r": 2}, {}, 2 * 2 * 20),
    ("shira", {"r": 2}, {"layers": 3}, 3 * 2 * 20),
    ("shira", {"r": 2}, {"inputs": 14}, 2 * 2 * 22),
    ("shira", {"r": 2}, {"outputs": 10}, 2 * 2 * 22),
    ("shira", {"r": 3}, {}, 2 * 3 * 20),
    ("shira", {"r": 32}, {}, 2 * 4 * 20),
    # A quarter of 96 entries.
    ("supertuning", {"sparsity": 0.75}, {}, 2 * 24),
    ("supertuning", {"sparsity": 0.75}, {"layers": 3}, 3 * 24),
    ("supertuning", {"sparsity": 0.75}, {"inputs": 14}, 2 * 28),
    ("supertuning", {"sparsity": 0.75}, {"outputs": 10}, 2 * 30),
    ("supertuning", {"sparsity": 0.5}, {}, 2 * 48),
    ("supertuning", {"sparsity": 0.7}, {}, 2 * 28),
    ("supertuning", {"sparsity": 0.75, "r": 2}, {}, 2 * (24 + 2 * 20)),
    # A vector of 3 for each layer, or for each group of them.
    ("tinylora", {"u": 3}, {}, 2 * 3),
    ("tinylora", {"u": 3}, {"layers": 5}, 5 * 3),
    ("tinylora", {"u": 3}, {"inputs": 14, "outputs": 10}, 2 * 3),
    ("tinylora", {"u": 4}, {}, 2 * 4),
    ("tinylora", {"u": 3, "weight_tying": 1.0}, {"layers": 5}, 3),
    ("tinylora", {"u": 3, "weight_tying": 0.4}, {"layers": 5}, 3 * 3),
    # The vector alone, as long as every entry of it is used: two layers have 2 x 2 x 20 entries of rank 2.
    ("unilora", {"r": 2, "theta_d_length": 30}, {}, 30),
    ("unilora", {"r": 2, "theta_d_length": 30}, {"layers": 5}, 30),
    ("unilora", {"r": 2, "theta_d_length": 1000}, {}, 2 * 2 * 20),
    ("unilora", {"r": 3, "theta_d_length": 1000}, {}, 2 * 3 * 20),
    # A bank of 5 x 4; A of rank 2 has 6 pieces of 4, B has 4, each with 5 logits.
    ("vblora", {"r": 2, "num_vectors": 5, "vector_length": 4}, {}, 20 + 2 * (6 + 4) * 5),
    ("vblora", {"r": 2, "num_vectors": 5, "vector_length": 4}, {"layers": 3}, 20 + 3 * (6 + 4) * 5),
    ("vblora", {"r": 2, "num_vectors": 5, "vector_length": 4}, {"inputs": 16}, 20 + 2 * (8 + 4) * 5),
    ("vblora", {"r": 2, "num_vectors": 5, "vector_length": 4}, {"outputs": 12}, 20 + 2 * (6 + 6) * 5),
    ("vblora", {"r": 3, "num_vectors": 5, "vector_length": 4}, {}, 20 + 2 * (9 + 6) * 5),
    ("vblora", {"r": 2, "num_vectors": 6, "vector_length": 4}, {}, 24 + 2 * (6 + 4) * 6),
    ("vblora", {"r": 2, "num_vectors": 5, "vector_length": 3}, {}, 10 + 2 * (12 + 8) * 5),
    ("waveft", {"n_frequency": 10}, {}, 2 * 10),
    ("waveft", {"n_frequency": 10}, {"layers": 3}, 3 * 10),
    ("waveft", {"n_frequency": 10}, {"inputs": 14, "outputs": 10}, 2 * 10),
    ("waveft", {"n_frequency": 1000}, {}, 2 * 96),
    # A [4, 12] for each block, two B [8, 4] for all of them, a router [2, 4] for each.
    ("lily", {"r": 4}, {}, 2 * 48 + 2 * 32 + 2 * 8),
    ("lily", {"r": 4}, {"layers": 5}, 5 * 48 + 2 * 32 + 5 * 8),
    ("lily", {"r": 4}, {"inputs": 14}, 2 * 56 + 2 * 32 + 2 * 8),
    ("lily", {"r": 4}, {"outputs": 10}, 2 * 48 + 2 * 40 + 2 * 8),
    ("lily", {"r": 5}, {}, 2 * 60 + 2 * 40 + 2 * 10),
    ("lily", {"r": 4, "stride_A": 2}, {"layers": 5}, 3 * 48 + 2 * 32 + 5 * 8),
    ("lily", {"r": 4, "num_B": 3}, {}, 2 * 48 + 3 * 32 + 2 * 12),
    # Two skills of A [12, 4] and B [4, 8], and a weight for each.
    ("poly", {"r": 4, "n_skills": 2}, {}, 2 * (2 * (48 + 32) + 2)),
    ("poly", {"r": 4, "n_skills": 2}, {"layers": 3}, 3 * (2 * (48 + 32) + 2)),
    ("poly", {"r": 4, "n_skills": 2}, {"inputs": 14}, 2 * (2 * (56 + 32) + 2)),
    ("poly", {"r": 4, "n_skills": 2}, {"outputs": 10}, 2 * (2 * (48 + 40) + 2)),
    ("poly", {"r": 5, "n_skills": 2}, {}, 2 * (2 * (60 + 40) + 2)),
    ("poly", {"r": 4, "n_skills": 3}, {}, 2 * (3 * (48 + 32) + 3)),
    ("poly", {"r": 4, "n_skills": 2, "n_splits": 2}, {}, 2 * (2 * (48 + 32) + 4)),
    ("beft", {}, {}, 2 * 8),
    ("beft", {}, {"layers": 3}, 3 * 8),
    ("beft", {}, {"inputs": 14}, 2 * 8),
    ("beft", {}, {"outputs": 10}, 2 * 10),
]
NAMES = sorted({name for name, *_ in COUNTS})


@pytest.mark.parametrize(("name", "settings", "shape", "trained"), COUNTS, ids=str)
def test_counts_are_those_worked_out_by_hand(
    name: str, settings: dict[str, Any], shape: dict[str, int], trained: int
) -> None:
    assert method(name, targets=["query"], **settings).trainable_parameters(facts(**shape)) == trained


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_added_up_over_targets(name: str) -> None:
    """Two targets of one shape train twice as much, but for what all layers share."""
    both = facts()
    both.shapes.linear["v_proj"] = (INPUTS, OUTPUTS)  # type: ignore[index]  # the dict that was given in
    small = {"vblora": {"num_vectors": 5, "vector_length": 4}, "unilora": {"theta_d_length": 30}}.get(name, {})
    counts = [
        method(name, targets=targets, **small).trainable_parameters(both) for targets in (["query"], ["query", "value"])
    ]
    shared = {"vblora": 20, "unilora": 30}.get(name, 0)
    assert counts[1] - shared == 2 * (counts[0] - shared)


@pytest.mark.parametrize("name", NAMES)
def test_no_count_where_targets_are_not_those_of_roles(name: str) -> None:
    chosen = method(name, target_modules=["layers.1.self_attn.q_proj"])
    assert chosen.trainable_parameters(facts()) in (None, *([23040] if name == "unilora" else []))
    assert chosen.peft_settings(facts())["target_modules"] == ["layers.1.self_attn.q_proj"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "beft"])
def test_sizes_go_from_the_least_that_is_trained_to_the_most(name: str) -> None:
    model = facts(inputs=48, outputs=32)
    chosen: Method = method(name, targets=["query"])
    sizes = chosen.sizes(model)
    some = [sizes[place * (len(sizes) - 1) // 6] for place in range(7)]
    trained = [chosen.with_size(size).trainable_parameters(model) or 0 for size in some]
    assert trained == sorted(trained)
    assert trained[0] > 0
    assert trained[-1] > trained[0]
    nearest = chosen.resized(model, trained[3])
    assert nearest.trainable_parameters(model) == trained[3]
    assert nearest.unfit(model) is None
    assert build(name, type(nearest), nearest.settings()) == nearest


def test_a_size_that_has_to_divide_is_the_largest_that_does() -> None:
    assert [largest_divisor([72, 108], most) for most in (36, 35, 17, 2, 1, 1000)] == [36, 18, 12, 2, 1, 36]
    assert largest_divisor([576, 1536, 192], 256) == 192
    assert largest_divisor([7], 6) == 1


@pytest.mark.parametrize(
    ("name", "setting", "shape", "given", "taken"),
    [
        ("oft", "oft_block_size", (72, 72), 32, 24),
        ("oft", "oft_block_size", (72, 50), 32, 24),
        ("oft", "oft_block_size", (1536, 576), 32, 32),
        ("psoft", "r", (72, 24), 32, 24),
        ("psoft", "r", (16, 24), 32, 16),
        ("road", "group_size", (72, 24), 64, 24),
        ("road", "group_size", (72, 576), 64, 64),
        ("road", "group_size", (72, 102), 64, 34),
        ("shira", "r", (32, 16), 32, 10),
        ("unilora", "theta_d_length", (12, 8), 23040, 160),
        ("vblora", "vector_length", (576, 192), 256, 192),
        ("vblora", "vector_length", (4096, 1024), 256, 256),
        ("waveft", "n_frequency", (32, 16), 2592, 512),
    ],
)
def test_what_does_not_fit_is_lowered(name: str, setting: str, shape: tuple[int, int], given: int, taken: int) -> None:
    chosen = method(name, targets=["query"], **{setting: given})
    model = facts(inputs=shape[0], outputs=shape[1])
    assert chosen.unfit(model) is None
    assert chosen.peft_settings(model)[setting] == taken


def test_sizes_fit_all_targets_at_once() -> None:
    model = facts()  # 12 to 8, and 10 to 6
    assert method("oft", targets=["query", "key"]).peft_settings(model)["oft_block_size"] == 2
    assert method("psoft", targets=["query", "key"]).peft_settings(model)["r"] == 6
    assert method("road", targets=["query", "key"]).peft_settings(model)["group_size"] == 2
    assert method("vblora", targets=["query", "key"]).peft_settings(model)["vector_length"] == 2


def test_osf_keeps_in_each_target_what_is_not_trained() -> None:
    chosen = method("osf", targets=["query", "key"], trainable_rank=7).peft_settings(facts())
    assert chosen["rank_pattern"] == {r"\bq_proj$": 1, r"\bk_proj$": 1}
    chosen = method("osf", targets=["query", "key"], trainable_rank=2).peft_settings(facts())
    assert chosen["rank_pattern"] == {r"\bq_proj$": 6, r"\bk_proj$": 4}
    assert "rank_pattern" not in method("osf").peft_settings(facts())


def test_psoft_is_not_scaled_by_its_rank() -> None:
    chosen = method("psoft", targets=["query"], r=32).peft_settings(facts())
    assert chosen["psoft_alpha"] == chosen["r"] == 8


def test_a_smaller_rank_of_randlora_keeps_its_scale() -> None:
    assert method("randlora").with_size(8) == method("randlora", r=8, randlora_alpha=160)


def test_logits_of_vblora_learn_faster_than_its_bank() -> None:
    names = ("base_model.model.q_proj.vblora_logits_A.default", "base_model.vblora_vector_bank.default")
    assert [method("vblora").learning_rate_factor(name) for name in names] == [10.0, 1.0]


def test_only_lily_knows_tokens_to_come() -> None:
    unaware = [name for name in registry.names("methods") if registry.load("methods", name).value.causal]
    assert set(registry.names("methods")) - set(unaware) == {"lily"}


@pytest.mark.parametrize(
    ("name", "settings", "model", "words"),
    [
        ("oft", {}, facts(inputs=37), "no block size divides the inputs"),
        ("osf", {"effective_rank": 8}, facts(), "leaves nothing to train in a target 8 wide"),
        ("osf", {"trainable_rank": 2, "target_modules": ["layers.0.q_proj"]}, facts(), "give effective_rank instead"),
        ("poly", {"n_splits": 5}, facts(), "n_splits 5 does not divide a width of 8"),
        (
            "poly",
            {"target_modules": ["fc1"]},
            facts(model_type="opt", roles=ARCHITECTURES["opt"]),
            "does not take the feed-forward layers of opt",
        ),
        ("road", {}, facts(outputs=9), "an odd number of outputs"),
        ("supertuning", {}, facts(), "a sparsity of 0.99 leaves nothing to train"),
        ("trainable_tokens", {"token_indices": [3, 100]}, facts(), "m has 100 tokens, and no id 100"),
        *[
            (name, {}, facts(model_type="gpt2", roles=ARCHITECTURES["gpt2"]), "transposed layers of gpt2")
            for name in ("beft", "lily", "oft", "osf", "peanut", "poly", "psoft", "road", "shira", "supertuning")
        ],
    ],
    ids=str,
)
def test_what_cannot_fit_is_a_sentence(name: str, settings: dict[str, Any], model: Facts, words: str) -> None:
    targets = {} if name == "trainable_tokens" else {"targets": ["query"]}
    assert words in (method(name, **targets, **settings).unfit(model) or "")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("lily", {"num_B": 1}, "num_B must be at least 2"),
        ("lily", {"stride_A": 0}, "stride_A must be at least 1"),
        ("oft", {"oft_block_size": 1}, "oft_block_size must be at least 2"),
        ("oft", {"num_cayley_neumann_terms": 1}, "num_cayley_neumann_terms must be at least 2"),
        ("oft", {"module_dropout": 1.0}, "module_dropout must be at least 0 and below 1"),
        ("osf", {"effective_rank": 2, "trainable_rank": 2}, "say the same: give one of them"),
        ("osf", {"effective_rank": 0}, "effective_rank must be at least 1"),
        ("osf", {"trainable_rank": 0}, "trainable_rank must be at least 1"),
        ("peanut", {"r": 0}, "r must be at least 1"),
        ("peanut", {"depth": -1}, "depth must be at least 0"),
        ("peanut", {"act_fn": "rellu"}, "act_fn: Input should be"),
        ("poly", {"n_skills": 0}, "n_skills must be at least 1"),
        ("psoft", {"r": 1}, "r must be at least 2"),
        ("psoft", {"r": 0, "psoft_orth": False}, "r must be at least 1"),
        ("psoft", {"psoft_svd": "fast"}, "psoft_svd: Input should be 'full' or 'lowrank'"),
        ("pvera", {"pvera_dropout": -0.1}, "pvera_dropout must be at least 0 and below 1"),
        ("randlora", {"r": 0}, "r must be at least 1"),
        ("randlora", {"sparse": True, "very_sparse": True}, "sparse and very_sparse"),
        ("road", {"group_size": 7}, "group_size must be even"),
        ("road", {"variant": "road_3"}, "variant: Input should be"),
        ("shadow", {"shadow_num_hidden_layers": 0}, "shadow_num_hidden_layers must be at least 1"),
        ("shadow", {"shadow_dropout": 1.0}, "shadow_dropout must be at least 0 and below 1"),
        ("shira", {"r": 0}, "r must be at least 1"),
        ("supertuning", {"sparsity": 1.0}, "sparsity must be at least 0 and below 1"),
        ("supertuning", {"lora_alpha": 2.0}, "give r as well"),
        ("supertuning", {"r": 0}, "r must be at least 1, or left away"),
        ("tinylora", {"u": 0}, "u must be at least 1"),
        ("tinylora", {"weight_tying": 1.5}, "weight_tying must be between 0 and 1"),
        ("trainable_tokens", {"num_tokens": 0}, "num_tokens must be at least 1"),
        ("trainable_tokens", {"token_indices": []}, "token_indices must name a token"),
        ("trainable_tokens", {"token_indices": [3, 3]}, "token_indices must be different ids"),
        ("trainable_tokens", {"token_indices": [-1]}, "token_indices must be different ids, none below 0"),
        ("unilora", {"theta_d_length": 0}, "theta_d_length must be at least 1"),
        ("unilora", {"init_theta_d_bound": 0.0}, "nothing is learned"),
        ("vblora", {"topk": 300}, "topk must be at most num_vectors"),
        ("vblora", {"init_vector_bank_bound": 0.0}, "nothing is learned"),
        ("waveft", {"n_frequency": 0}, "n_frequency must be at least 1"),
        ("waveft", {"wavelet_family": "haar"}, "wavelet_family must be one of db1 to db38"),
    ],
    ids=str,
)
def test_senseless_settings_are_a_sentence(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodProblem) as caught:
        method(name, **settings)
    assert words in caught.value.message


def test_trainable_tokens_are_the_first_unless_named() -> None:
    model = facts()
    assert method("trainable_tokens", num_tokens=3).peft_settings(model) == {"token_indices": [0, 1, 2]}
    assert method("trainable_tokens", token_indices=[7, 2]).peft_settings(model) == {"token_indices": [7, 2]}
    assert method("trainable_tokens", num_tokens=3).trainable_parameters(model) == 3 * 12
    assert method("trainable_tokens", num_tokens=4).trainable_parameters(model) == 4 * 12
    assert method("trainable_tokens", num_tokens=3).trainable_parameters(facts(inputs=14)) == 3 * 14
    assert method("trainable_tokens").trainable_parameters(model) == 100 * 12
    assert method("trainable_tokens", token_indices=[7, 2]).trainable_parameters(model) == 2 * 12
    assert method("trainable_tokens").trainable_parameters(facts(model_type="opt")) is None
    assert method("trainable_tokens").resized(model, 50) == method("trainable_tokens", num_tokens=4)


@pytest.mark.parametrize(
    ("settings", "layers", "trained"),
    [
        # One block (12 x 8 and 10 x 6), its two norms and the last; three corrections; two updates of s.
        ({"r": 2}, 3, (96 + 60 + 3 * 12) + 3 * 2 * 24 + 2 * 2 * (24 + 2 + 24 + 12)),
        ({"r": 2}, 4, (96 + 60 + 3 * 12) + 4 * 2 * 24 + 3 * 2 * (24 + 2 + 24 + 12)),
        ({"r": 3}, 3, (96 + 60 + 3 * 12) + 3 * 2 * 36 + 2 * 2 * (36 + 3 + 36 + 12)),
        ({"r": 2}, 1, (96 + 60 + 3 * 12) + 1 * 2 * 24),
        (
            {"r": 2, "shadow_num_hidden_layers": 2},
            3,
            (2 * (96 + 60) + 5 * 12) + 3 * 2 * 24 + 2 * 2 * (24 + 2 + 24 + 12),
        ),
    ],
)
def test_shadow_counts_its_network_its_corrections_and_its_updates(
    settings: dict[str, Any], layers: int, trained: int
) -> None:
    assert method("shadow", **settings).trainable_parameters(facts(layers=layers)) == trained
