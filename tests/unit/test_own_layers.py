"""Adapters of our own: what they train, counted by hand; where they read and add; how they are written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached
from peftbench.methods._method import Base, Method
from peftbench.methods._svft import SparseUpdate
from peftbench.methods.bottleneck import Bottleneck
from peftbench.methods.head_only import HeadOnly
from peftbench.methods.last_layers import LastLayers
from peftbench.methods.parallel import Parallel
from peftbench.methods.sequential import Sequential
from peftbench.methods.svft import Svft
from peftbench.models._batch import pad
from peftbench.models._facts import ModelFacts
from peftbench.models._load import LoadedModel
from peftbench.models._roles import ARCHITECTURES
from peftbench.models._shapes import shapes
from peftbench.testing.models import tiny
from peftbench.testing.shapes import LLAMA_3_8B, llama_3_8b
from peftbench.testing.toy import furthest, perturb, reference_logits

SMALL = {
    "vocab_size": 50,
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
OWN: tuple[Method, ...] = (Bottleneck(), Sequential(), Parallel(), Svft(), LastLayers(), HeadOnly())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def facts(model_type: str = "llama", **changed: int) -> ModelFacts:
    return ModelFacts("m", "0", model_type, 64, shapes(model_type, {**SMALL, **changed}.get), None, None)


# ---- how much is trained -------------------------------------------------------------------------------------------

FORMULAS: list[tuple[Method, dict[str, int], int]] = [
    # 2 m d + d + m for each adapter; d = 48, m = 48 / 16 = 3; three blocks.
    (Bottleneck(), {}, 3 * 2 * (2 * 3 * 48 + 48 + 3)),
    (Bottleneck(), {"num_hidden_layers": 5}, 5 * 2 * (2 * 3 * 48 + 48 + 3)),
    (Bottleneck(), {"hidden_size": 64}, 3 * 2 * (2 * 4 * 64 + 64 + 4)),
    (Bottleneck(), {"intermediate_size": 300, "num_key_value_heads": 4}, 3 * 2 * (2 * 3 * 48 + 48 + 3)),
    (Bottleneck(width=7), {}, 3 * 2 * (2 * 7 * 48 + 48 + 7)),
    (Bottleneck(reduction_factor=10), {}, 3 * 2 * (2 * 4 * 48 + 48 + 4)),
    (Bottleneck(reduction_factor=100), {}, 3 * 2 * (2 * 1 * 48 + 48 + 1)),
    (Sequential(), {}, 3 * (2 * 3 * 48 + 48 + 3)),
    (Sequential(width=5), {"num_hidden_layers": 1}, 2 * 5 * 48 + 48 + 5),
    (Parallel(), {}, 3 * (2 * 24 * 48 + 48 + 24)),
    (Parallel(scaling=1.0), {"hidden_size": 64}, 3 * (2 * 32 * 64 + 64 + 32)),
    # n + 2 (n - 1) and a gate; n = 48 for the query, 24 for the key: two of four heads.
    (Svft(), {}, 3 * ((48 + 2 * 47 + 1) + (24 + 2 * 23 + 1))),
    (Svft(), {"num_hidden_layers": 7}, 7 * ((48 + 2 * 47 + 1) + (24 + 2 * 23 + 1))),
    (Svft(), {"num_key_value_heads": 4}, 3 * 2 * (48 + 2 * 47 + 1)),
    (Svft(off_diag=0), {}, 3 * ((48 + 1) + (24 + 1))),
    (Svft(off_diag=2), {}, 3 * ((48 + 2 * (47 + 46) + 1) + (24 + 2 * (23 + 22) + 1))),
    (Svft(off_diag=2, pattern="plain"), {}, 3 * ((48 + 1) + (24 + 1))),
    (Svft(off_diag=2, pattern="random"), {}, 3 * ((48 + 2 * (47 + 46) + 1) + (24 + 2 * (23 + 22) + 1))),
    (Svft(off_diag=2, pattern="top_k"), {}, 3 * ((48 + 2 * (47 + 46) + 1) + (24 + 2 * (23 + 22) + 1))),
    (Svft(off_diag=23), {}, 3 * ((48 + 2 * sum(range(25, 48)) + 1) + (24 * 24 + 1))),
    (Svft(targets=("down",)), {"intermediate_size": 30}, 3 * (30 + 2 * 29 + 1)),
    # Query and output 48 x 48, key and value 48 x 24, three of 48 x 100, two norms; and the last norm.
    (LastLayers(), {}, 2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 100 + 2 * 48 + 48),
    (LastLayers(), {"num_hidden_layers": 9}, 2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 100 + 2 * 48 + 48),
    (LastLayers(blocks=2), {}, 2 * (2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 100 + 2 * 48) + 48),
    (LastLayers(), {"vocab_size": 999}, 2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 100 + 2 * 48 + 48),
    (HeadOnly(), {}, 50 * 48),
    (HeadOnly(), {"vocab_size": 51}, 51 * 48),
    (HeadOnly(), {"tie_word_embeddings": 1}, 50 * 48),
]


@pytest.mark.parametrize(("method", "changed", "trained"), FORMULAS, ids=str)
def test_formulas_are_those_of_the_papers(method: Method, changed: dict[str, int], trained: int) -> None:
    assert method.trainable_parameters(facts("llama", **changed)) == trained


def test_a_head_with_a_bias_and_one_of_a_narrow_table() -> None:
    assert HeadOnly().trainable_parameters(facts("phi")) == 50 * 48 + 50
    assert HeadOnly().trainable_parameters(facts("opt", word_embed_proj_dim=20, ffn_dim=60)) == 50 * 20


def test_svft_on_llama_3_8b(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 x [(3 x 4096 - 2 + 1) + (3 x 1024 - 2 + 1)], by the formula and built without values."""
    llama = llama_3_8b()
    assert Svft().trainable_parameters(llama) == 491_456
    monkeypatch.setattr("peftbench.methods._attach.checksum", lambda model: {})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_3_8B)).requires_grad_(requires_grad=False)
        base = cast("Base", SimpleNamespace(model=model, facts=llama))
        with attached(Svft(), base) as adapter:
            assert adapter.parameters == 491_456


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_what_is_built_is_what_the_formula_says(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    for method in OWN:
        assert method.unfit(base.facts) is None
        with attached(method, base) as adapter:
            assert adapter.parameters == method.trainable_parameters(base.facts), method


@pytest.mark.parametrize(
    ("method", "wanted", "settings"),
    [
        (Bottleneck(), 3 * 2 * (2 * 9 * 48 + 48 + 9) + 40, {"width": 9}),
        (Parallel(), 1, {"width": 1, "scaling": 4.0}),
        (Sequential(), 10**9, {"width": 48}),
        (Svft(), 3 * ((48 + 2 * (47 + 46) + 1) + (24 + 2 * (23 + 22) + 1)), {"off_diag": 2}),
        (Svft(), 0, {"off_diag": 0}),
        (Svft(), 10**9, {"off_diag": 23}),
        (Svft(pattern="plain"), 10**9, {"pattern": "plain"}),
        (LastLayers(), 10**9, {"blocks": 3}),
    ],
    ids=str,
)
def test_a_budget_finds_the_size(method: Method, wanted: int, settings: dict[str, Any]) -> None:
    found = method.resized(facts(), wanted)
    assert found.settings() == {**method.settings(), **settings}
    assert found.unfit(facts()) is None


def test_too_much_is_a_sentence() -> None:
    assert Svft(off_diag=24).unfit(facts()) == (
        "off_diag 24 does not fit a layer of 24 singular values; the most is 23"
    )
    assert Svft(off_diag=24, pattern="plain").unfit(facts()) is None
    assert Svft(off_diag=24, targets=("query",)).unfit(facts()) is None
    assert Svft(targets=("gate",)).unfit(facts("gpt_neox")) == "gpt_neox has no layers in the role 'gate'"
    assert LastLayers(blocks=4).unfit(facts()) == "there are 3 blocks, not 4"


# ---- where adapters read and add -----------------------------------------------------------------------------------

PARTS = {
    "llama": ("model.layers.0", "self_attn.o_proj", "mlp.down_proj"),
    "gemma2": ("model.layers.0", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("transformer.h.0", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers.0", "attention.dense", "mlp.dense_4h_to_h"),
    "phi": ("model.layers.0", "self_attn.dense", "mlp.fc2"),
    "opt": ("model.decoder.layers.0", "self_attn.out_proj", "fc2"),
}


def noted(base: LoadedModel, places: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """What goes `in` or comes `out` of modules of the first block, in one pass."""
    found: dict[str, torch.Tensor] = {}
    handles = []
    for place, side in places.items():

        def note(module: Any, inputs: Any, output: Any, key: str = f"{side} {place}", side: str = side) -> None:
            value = inputs[0] if side == "in" else output
            found[key] = (value[0] if isinstance(value, tuple) else value).detach().clone().reshape(-1, 32)

        handles.append(base.model.get_submodule(place).register_forward_hook(note))
    with torch.no_grad():
        base.model(**pad([[5, 6, 7, 8, 9]], base.device).inputs(), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("model_type", PARTS)
def test_bottleneck_reads_and_changes_what_each_part_puts_out(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    block, *parts = PARTS[model_type]
    # Nothing stands before the first adapter, so it reads what the base computes there.
    first = f"{block}.{parts[0]}"
    alone = noted(base, {first: "out"})[f"out {first}"]
    for part in parts:
        place = f"{block}.{part}"
        with attached(Bottleneck(init_std=0.5), base) as adapter:
            perturb(adapter)
            # Hooks run in their order: the first sees what the layer puts out, the last what is made of it.
            found = noted(base, {f"{place}.adapter.down": "in", f"{place}.adapter.up": "out", place: "out"})
        before, added = found[f"in {place}.adapter.down"], found[f"out {place}.adapter.up"]
        assert furthest(found[f"out {place}"], before + added) < 1e-5
        assert float(added.abs().max()) > 1e-3
        assert (furthest(before, alone) < 1e-5) == (place == first)


@pytest.mark.parametrize("model_type", PARTS)
def test_sequential_reads_what_the_base_block_puts_out(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    block = PARTS[model_type][0]
    alone = noted(base, {block: "out"})[f"out {block}"]
    with attached(Sequential(init_std=0.5), base):
        found = noted(base, {f"{block}.adapter.down": "in", f"{block}.adapter.up": "out", block: "out"})
    assert furthest(found[f"in {block}.adapter.down"], alone) < 1e-5
    assert furthest(found[f"out {block}"], alone + found[f"out {block}.adapter.up"]) < 1e-5


@pytest.mark.parametrize("model_type", PARTS)
def test_parallel_reads_the_stream_before_feed_forward(model_type: str, tmp_path: Path) -> None:
    base = tiny(model_type, tmp_path / model_type)
    block, attention, down = (
        PARTS[model_type][0],
        *(f"{PARTS[model_type][0]}.{part}" for part in PARTS[model_type][1:]),
    )
    # Gemma 2 has a norm behind attention.
    added_first = f"{block}.post_attention_layernorm" if model_type == "gemma2" else attention
    alone = noted(base, {block: "in", added_first: "out", down: "out"})
    side_by_side = model_type in {"phi", "gpt_neox"}
    stream = alone[f"in {block}"] + (0 if side_by_side else alone[f"out {added_first}"])
    with attached(Parallel(), base) as adapter:
        perturb(adapter, 0.5)
        found = noted(base, {f"{down}.adapter.down": "in", f"{down}.adapter.up": "out", down: "out"})
    assert furthest(found[f"in {down}.adapter.down"], stream) < 1e-5
    assert furthest(found[f"out {down}"], alone[f"out {down}"] + 4.0 * found[f"out {down}.adapter.up"]) < 1e-4


def test_serial_adapters_start_near_the_base(tmp_path: Path) -> None:
    base = tiny("llama", tmp_path / "llama")
    before = reference_logits(base.model, base)
    for method in (Bottleneck(), Sequential()):
        with attached(method, base) as adapter:
            away = furthest(before, reference_logits(adapter.module, base))
            weights = torch.cat([value.flatten() for name, value in adapter.trainable.items() if "weight" in name])
            biases = [value for name, value in adapter.trainable.items() if "bias" in name]
        assert 0 < away < 1e-3
        assert float(weights.detach().abs().max()) <= 0.002
        # A Gaussian cut off at two standard deviations has 0.88 of one.
        assert 0.0007 < float(weights.detach().std()) < 0.001
        assert not any(bool(value.any()) for value in biases)


# ---- SVFT ----------------------------------------------------------------------------------------------------------


def update_of(weight: torch.Tensor, pattern: Any = "banded", count: int | None = None, seed: int = 0) -> SparseUpdate:
    """An update with entries that are not zero."""
    size = min(weight.shape)
    update = SparseUpdate(weight, pattern, size + 2 * (size - 1) if count is None else count, seed)
    with torch.no_grad():
        update.entries.normal_()
        update.gate.fill_(0.3)
    return update


@pytest.mark.parametrize("shape", [(6, 6), (9, 6), (6, 9)], ids=str)
def test_the_update_is_m_between_the_singular_vectors(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    update = update_of(weight)
    middle = torch.zeros(6, 6)
    entries = iter(update.entries.tolist())
    for offset in (0, 1, -1):
        for row in range(max(0, -offset), 6 - max(0, offset)):
            middle[row, row + offset] = next(entries)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    signs = left.gather(0, left.abs().argmax(dim=0, keepdim=True)).sign()
    expected = torch.sigmoid(torch.tensor(0.3)) * (left * signs) @ middle @ (right * signs.T)
    assert furthest(update.weight().detach(), expected) < 1e-5
    inputs = torch.randn(2, 4, shape[1])
    assert furthest(update(inputs).detach(), inputs @ expected.T) < 1e-5
    assert furthest(update.left @ values.diag() @ update.right, weight) < 1e-5


@pytest.mark.parametrize("pattern", ["random", "top_k"])
@pytest.mark.parametrize("shape", [(6, 6), (9, 6)], ids=str)
def test_scattered_entries_do_what_their_matrix_does(pattern: str, shape: tuple[int, int]) -> None:
    update = update_of(torch.randn(shape), pattern, 16)
    places = set(zip(update.rows.tolist(), update.columns.tolist(), strict=True))
    assert len(places) == 16, "no entry stands where another does"
    inputs = torch.randn(3, shape[1])
    assert furthest(update(inputs).detach(), inputs @ update.weight().detach().T) < 1e-5


def test_random_places_follow_the_seed() -> None:
    weight = torch.randn(8, 8)
    torch.manual_seed(1)
    first = update_of(weight, "random", 10, seed=3)
    torch.manual_seed(2)
    same, other = update_of(weight, "random", 10, seed=3), update_of(weight, "random", 10, seed=4)
    assert torch.equal(first.rows, same.rows)
    assert not torch.equal(first.rows * 8 + first.columns, other.rows * 8 + other.columns)


def test_top_k_takes_what_is_most_alike() -> None:
    weight = torch.randn(7, 7)
    update = update_of(weight, "top_k", 5)
    alike = (update.left.T @ update.right.T).abs()
    chosen = alike[update.rows, update.columns]
    assert float(chosen.min()) >= float(alike.flatten().topk(6).values[5])
    wide = update_of(torch.diag(torch.tensor([5.0, 3.0, 1.0]))[:, [0, 1, 2, 2]], "top_k", 3)
    assert sorted(zip(wide.rows.tolist(), wide.columns.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]


def test_signs_do_not_depend_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(6, 5)
    usual = update_of(weight)
    real = torch.linalg.svd

    def turned(*args: Any, **options: Any) -> Any:
        left, values, right = real(*args, **options)
        signs = torch.tensor([1.0, -1, -1, 1, -1])
        return left * signs, values, right * signs[:, None]

    monkeypatch.setattr(torch.linalg, "svd", turned)
    other = update_of(weight)
    assert torch.equal(usual.left, other.left)
    assert torch.equal(usual.right, other.right)


@pytest.mark.parametrize("pattern", ["banded", "random", "top_k"])
def test_an_update_of_other_vectors_is_refused(pattern: Any, tmp_path: Path) -> None:
    method = Svft(pattern=pattern)
    base = tiny("llama", tmp_path / "llama")
    folder = tmp_path / "adapter"
    folder.mkdir()
    with attached(method, base) as adapter:
        perturb(adapter)
        method.save(adapter.module, base, folder)
    with attached(method, base) as adapter:
        method.load(adapter.module, base, folder)
    with torch.no_grad():
        base.model.get_parameter("model.layers.1.self_attn.k_proj.weight")[:4].normal_()
    with attached(method, base) as adapter, pytest.raises(MethodProblem, match=r"layers\.1\.self_attn\.k_proj\.svft"):
        method.load(adapter.module, base, folder)


def test_scattered_places_are_read_from_the_file(tmp_path: Path) -> None:
    """Where entries stand is not drawn again: another version of the library may draw other places."""
    base = tiny("llama", tmp_path / "llama")
    with attached(Svft(pattern="random"), base) as adapter:
        perturb(adapter)
        Svft(pattern="random").save(adapter.module, base, tmp_path)
        trained = reference_logits(adapter.module, base)
    with attached(Svft(pattern="random", seed=5), base) as adapter:
        Svft(pattern="random", seed=5).load(adapter.module, base, tmp_path)
        assert furthest(trained, reference_logits(adapter.module, base)) < 1e-6


# ---- what is written -----------------------------------------------------------------------------------------------

WRITTEN: list[tuple[Method, dict[str, tuple[int, ...]]]] = [
    (
        Bottleneck(width=3),
        {
            f"model.layers.{block}.{part}.adapter.{layer}": shape
            for block in (0, 1)
            for part in ("self_attn.o_proj", "mlp.down_proj")
            for layer, shape in {
                "down.weight": (3, 32), "down.bias": (3,), "up.weight": (32, 3), "up.bias": (32,)
            }.items()
        },
    ),
    (
        Svft(off_diag=1),
        {
            f"model.layers.{block}.self_attn.{layer}.svft.{name}": shape
            for block in (0, 1)
            for layer, count in {"q_proj": 94, "k_proj": 46}.items()
            for name, shape in {"entries": (count,), "gate": (1,)}.items()
        },
    ),
    (HeadOnly(), {"lm_head.weight": (258, 32)}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "tensors"), WRITTEN, ids=lambda value: type(value).__name__)
def test_files_hold_what_the_page_on_formats_says(
    method: Method, tensors: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    base = tiny("llama", tmp_path / "llama")
    with attached(method, base) as adapter:
        method.save(adapter.module, base, tmp_path)
        written = load_file(tmp_path / "adapter.safetensors")
        assert {name: tuple(value.shape) for name, value in written.items()} == tensors
        assert {value.dtype for value in written.values()} == {torch.float32}
        save_file({name: value for name, value in written.items() if name != min(written)}, tmp_path / "x.safetensors")
        (tmp_path / "x.safetensors").replace(tmp_path / "adapter.safetensors")
        with pytest.raises(MethodProblem, match=r"The adapter in .* (lacks|has) "):
            method.load(adapter.module, base, tmp_path)


@pytest.mark.parametrize("pattern", ["banded", "random", "top_k"])
def test_an_update_can_be_built_from_its_files(pattern: Any, tmp_path: Path) -> None:
    """By what the page on formats says, and nothing else."""
    base = tiny("gpt2", tmp_path / "gpt2")
    method = Svft(pattern=pattern)
    with attached(method, base) as adapter:
        perturb(adapter)
        method.save(adapter.module, base, tmp_path)
    written = load_file(tmp_path / "adapter.safetensors") | load_file(tmp_path / "places.safetensors")
    name = "transformer.h.1.attn.c_attn"
    left, _, right = torch.linalg.svd(base.model.get_parameter(f"{name}.weight").T, full_matrices=False)
    middle = torch.zeros(32, 32)
    if pattern == "banded":
        diagonal, above, below = torch.split(written[f"{name}.svft.entries"], [32, 31, 31])
        middle += diagonal.diag() + above.diag(1) + below.diag(-1)
    else:
        middle[written[f"{name}.svft.rows"], written[f"{name}.svft.columns"]] = written[f"{name}.svft.entries"]
    for place in range(32):
        if left[:, place][left[:, place].abs().argmax()] < 0:
            left[:, place] *= -1
            right[place] *= -1
    update = written[f"{name}.svft.gate"].sigmoid() * (left @ middle @ right)
    probe = update @ torch.arange(32).cos()
    assert furthest(written[f"{name}.svft.probe"], probe) < 1e-5
    assert float(probe.abs().max()) > 1e-3


def test_the_head_is_trained_apart_from_the_embeddings(tmp_path: Path) -> None:
    base = tiny("gpt2", tmp_path / "gpt2")
    words = base.model.get_parameter("transformer.wte.weight")
    with attached(HeadOnly(), base) as adapter:
        (head,) = adapter.trainable.values()
        assert head.data_ptr() != words.data_ptr()
        assert torch.equal(head, words)
        assert sum(value.numel() for value in adapter.module.parameters()) == base.parameters
    assert base.model.get_output_embeddings().weight is words  # type: ignore[operator]


def test_the_end_of_the_model_is_trained(tmp_path: Path) -> None:
    base = tiny("gpt_neox", tmp_path / "gpt_neox")
    with attached(LastLayers(), base) as adapter:
        assert {name.rsplit(".", 2)[0] for name in adapter.trainable if "layers" not in name} == {"gpt_neox"}
        assert {name for name in adapter.trainable if "layers" not in name} == {
            "gpt_neox.final_layer_norm.weight",
            "gpt_neox.final_layer_norm.bias",
        }
        assert all(name.startswith("gpt_neox.layers.1.") for name in adapter.trainable if "layers" in name)
