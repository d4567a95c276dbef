"""Bases in 4 bits: what works on them says so, they come back bit for bit, and counts are those of the model."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench import registry
from peftbench.cost.flops import forward_flops
from peftbench.errors import MethodProblem, PeftbenchError
from peftbench.method_card import method_card
from peftbench.methods._attach import Original, attached, checksum, differing, is_packed
from peftbench.methods._method import Base
from peftbench.methods._variants import variants
from peftbench.methods.ln_tuning import LnTuning
from peftbench.methods.lora import Lora
from peftbench.methods.qlora import QLora
from peftbench.methods.zero_shot import ZeroShot
from peftbench.models._batch import pad
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel, load
from peftbench.models._quantization import missing, unpackable
from peftbench.models._roles import ARCHITECTURES
from peftbench.plan import make_plan
from peftbench.record import Record
from peftbench.runner import execute
from peftbench.spec import ModelRef, Quantization, Resources
from peftbench.store import Store
from peftbench.suites._read import build_suite
from peftbench.testing.base import copies, process_settings
from peftbench.testing.models import load_here, save_tiny
from peftbench.testing.quantised import unpacked, works
from peftbench.testing.subject import Subject, find_method
from peftbench.testing.toy import furthest, perturb, reference_logits
from peftbench.workbench import Workbench

pytestmark = [
    pytest.mark.packed,
    # torchao, where it is installed.
    pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning"),
]

NAMES = [*registry.names("methods"), *(name for _, name, _ in variants())]
MAKES = ("llama", "gpt_neox", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {make: save_tiny(make, tmp_path_factory.mktemp(make) / make, in_blocks=True) for make in MAKES}


def packed(folder: Path, quantization: Quantization = "nf4") -> LoadedModel:
    facts = find(str(folder))
    ref = ModelRef(name=facts.name, revision=facts.revision, quantization=quantization)
    return load(ref, facts, torch.device("cpu"))


def fault(name: str, folder: Path, quantization: Quantization) -> str | None:
    """Why a method does not work on a packed base, be it that it says so."""
    facts, named = find(str(folder)), find_method(name, {})
    with contextlib.ExitStack() as stack:
        subject = Subject(named, facts, 1e-2, folder, None, process_settings(), stack)  # type: ignore[arg-type]
        said = named.method.unfit(replace(facts, quantization=quantization))
        try:
            return said or works(subject, quantization)
        # Whatever a library raises when it does not know what it has before it.
        except (PeftbenchError, RuntimeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"


def promised(name: str, quantization: Quantization = "nf4") -> bool:
    method = find_method(name, {}).method
    return method.quantised_base and method.unfit(replace(find("tiny"), quantization=quantization)) is None


PROMISED = [name for name in NAMES if promised(name)]


@pytest.mark.parametrize(
    "quantization", ["nf4", pytest.param("fp4", marks=pytest.mark.slow), pytest.param("int8", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", PROMISED)
def test_what_says_so_works_on_packed_weights(name: str, quantization: Quantization, folders: dict[str, Path]) -> None:
    if missing(quantization):
        pytest.skip("torchao is not installed")
    if promised(name, quantization) and find_method(name, {}).method.quantization in {None, quantization}:
        assert fault(name, folders["llama"], quantization) is None


@pytest.mark.parametrize("name", sorted({*NAMES} - {*PROMISED}))
def test_what_does_not_say_so_fails_on_packed_weights(name: str, folders: dict[str, Path]) -> None:
    """On some model: what adds in place to the answer of a layer does so where layers have no biases."""
    assert any(fault(name, folders[make], "nf4") for make in ("llama", "gpt_neox"))


@pytest.mark.slow
@pytest.mark.parametrize("make", ["gpt_neox", "gpt2"])
@pytest.mark.parametrize("name", PROMISED)
def test_what_works_does_so_on_other_models(name: str, make: str, folders: dict[str, Path]) -> None:
    """Layers with biases; layers that are transposed until they are packed."""
    if find_method(name, {}).method.unfit(find(str(folders[make]))) is None:
        assert fault(name, folders[make], "nf4") is None


@pytest.fixture(scope="module")
def in_16_bits(folders: dict[str, Path]) -> LoadedModel:
    facts = find(str(folders["llama"]))
    ref = ModelRef(name=facts.name, revision=facts.revision, quantization="nf4", dtype="bfloat16")
    return load(ref, facts, torch.device("cpu"))


@pytest.mark.parametrize("name", [name for name in PROMISED if find_method(name, {}).method.trains])
def test_a_base_of_16_bits_goes_on_in_them(name: str, in_16_bits: LoadedModel) -> None:
    batch = pad([[5, 6, 7, 8]], in_16_bits.device)
    for autocast in (False, True):
        with attached(find_method(name, {}).method, in_16_bits) as adapter:
            perturb(adapter)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                logits = adapter.module(**batch.inputs(), use_cache=False).logits
            assert logits.dtype == torch.bfloat16
            logits.float().logsumexp(dim=-1).sum().backward()
            assert {value.dtype for value in adapter.trainable.values()} == {torch.float32}
            assert any(value.grad is not None and bool(value.grad.any()) for value in adapter.trainable.values())


@pytest.mark.parametrize("make", MAKES)
def test_counts_are_those_of_the_model(make: str, folders: dict[str, Path]) -> None:
    base, plain = packed(folders[make]), load_here(find(str(folders[make])))
    assert base.parameters == plain.parameters == base.facts.shapes.parameters
    assert sum(value.numel() for value in base.model.parameters()) < base.parameters
    assert not any(value.requires_grad for value in base.model.parameters())
    assert forward_flops(base.model, 40, base.device) == forward_flops(plain.model, 40, plain.device)
    with attached(Lora(), base) as one, attached(Lora(), plain) as other:
        assert one.parameters == other.parameters
        assert forward_flops(one.module, 40, base.device) == forward_flops(other.module, 40, plain.device)


def test_a_card_attaches_to_the_base_that_a_run_has(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    attach = QLora.attach

    def looking(self: QLora, base: Base) -> nn.Module:
        seen.append(any(map(is_packed, base.model.parameters())))
        return attach(self, base)

    monkeypatch.setattr(QLora, "attach", looking)
    on = method_card("qlora", str(folders["llama"]), attach=True).on_model
    assert on is not None
    assert (on.quantization, on.lacking) == ("nf4", None)
    assert on.attached == on.trained
    assert seen == [True]


@pytest.mark.parametrize("make", MAKES)
def test_answers_are_those_of_the_numbers_that_are_packed(make: str, folders: dict[str, Path]) -> None:
    base, plain = packed(folders[make]), load_here(find(str(folders[make])))
    found = reference_logits(base.model, base)
    expected = reference_logits(unpacked(base, plain).model, plain)
    assert furthest(found, expected) < 1e-5 * float(expected.abs().max())


# The paper's appendix E.
NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
    ]
)


def test_weights_are_those_of_the_paper(folders: dict[str, Path]) -> None:
    """In blocks of 64 the nearest of 16 values, times the largest of the block, which is in 8 bits itself."""
    base, plain, twin = packed(folders["llama"]), *(load_here(find(str(folders["llama"]))) for _ in range(2))
    found = dict(unpacked(base, twin).model.named_parameters())
    for name, value in plain.model.named_parameters():
        if "proj" not in name:
            assert torch.equal(found[name], value), name
            continue
        blocks = value.detach().reshape(-1, 64)
        largest = blocks.abs().amax(dim=1, keepdim=True)
        nearest = NF4[(blocks / largest).unsqueeze(-1).sub(NF4).abs().argmin(dim=-1)] * largest
        assert float(((found[name].reshape(-1, 64) - nearest).abs() / largest).max()) < 0.02, name


@pytest.mark.parametrize("make", ARCHITECTURES)
def test_only_linear_layers_of_blocks_are_packed(make: str, tmp_path: Path) -> None:
    """Not the head, although it is not tied to the embeddings."""
    folder = save_tiny(make, tmp_path / make, in_blocks=True)
    config = AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings = False
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    base = packed(folder)
    shapes = base.facts.shapes
    wanted = tuple(f".{name}.weight" for name in shapes.linear if name not in unpackable("nf4", shapes))
    assert wanted
    for name, value in base.model.named_parameters():
        assert is_packed(value) == name.endswith(wanted), name
    assert base.parameters == shapes.parameters


def test_what_is_no_whole_number_of_blocks_stays_as_it_is() -> None:
    """352 inputs: some processors would take the scales of other blocks."""
    base, plain = packed(Path(str(files("peftbench.models") / "tiny"))), load_here(find("tiny"))
    values = dict(plain.model.named_parameters())
    kept = [name for name, value in base.model.named_parameters() if value.shape == values[name].shape]
    assert all(torch.equal(base.model.get_parameter(name), values[name]) for name in kept)
    assert {name.split(".")[-2] for name in set(values) - {*kept}} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj")
    }


def test_asking_changes_no_weight(folders: dict[str, Path]) -> None:
    """Where the processor multiplies in bf16 the library would repack them, with scales rounded to 16 bits."""
    base = packed(folders["llama"])
    before, values = checksum(base.model), copies(base.model)
    reference_logits(base.model, base)
    assert not differing(before, checksum(base.model))
    assert all(torch.equal(value, values[name]) for name, value in base.model.named_parameters())


def test_a_changed_scale_is_noticed(folders: dict[str, Path]) -> None:
    """The weights are what is packed and its scales, and these are packed once more."""
    for part in ("absmax", "offset", "state2.absmax"):
        base = packed(folders["llama"])
        original = Original(base.model)
        original.note(())
        layer: Any = base.model.get_submodule("model.layers.0.mlp.up_proj")
        holder = layer.weight.quant_state
        for step in part.split(".")[:-1]:
            holder = getattr(holder, step)
        getattr(holder, part.rpartition(".")[2]).view(-1)[0] += 1
        assert original.differing() == ["model.layers.0.mlp.up_proj.weight"]


def test_merging_is_refused_unless_it_is_exact(folders: dict[str, Path]) -> None:
    base = packed(folders["llama"])
    with pytest.raises(MethodProblem, match=r"Lora cannot be merged exactly: 'model\.layers\.0\.self_attn\.q_proj"):
        attached(Lora(), base, to_merge=True).__enter__()
    with attached(LnTuning(), base, to_merge=True) as adapter:
        perturb(adapter)
        before = reference_logits(adapter.module, base)
        assert torch.equal(reference_logits(LnTuning().merge(adapter.module, base), base), before)
    with attached(ZeroShot(), base) as adapter:
        assert not torch.equal(reference_logits(adapter.module, base), before)


SMALL = ["train.limit=64", "train.max_steps=4", "evaluate.limit=8"]


def runs(store: Store, *methods: str) -> list[Record]:
    suite = build_suite({"tasks": ["toy_mood"], "models": ["tiny"], "methods": list(methods)}, SMALL)
    bench, how = Workbench(), Resources(device="cpu", threads=1)
    return [execute(run.spec, run.resources, store, bench) for run in make_plan(suite, how).runs]


# Stock transformers and peft; the weights that are packed, and their layout, are those of a run.
READER = """
import sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
folder, adapter, output = sys.argv[1:]
torch.set_num_threads(1)
how = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    llm_int8_skip_modules=["lm_head", "down_proj"],
)
where = {"": "cpu"}
base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=how, device_map=where)
for layer in base.modules():
    layer.support_avx512bf16_for_cpu = False
model = PeftModel.from_pretrained(base, adapter).eval()
with torch.no_grad():
    save_file({"logits": model(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits}, output)
"""


def test_qlora_runs_beside_lora_and_loads_in_a_fresh_process(tmp_path: Path) -> None:
    first, again = Store(tmp_path / "first"), Store(tmp_path / "again")
    records = runs(first, "lora", "qlora", "zero_shot")
    assert [record.failure for record in records] == [None] * 3
    assert [record.spec.base.quantization for record in records] == [None, None, "nf4"]
    costs = [record.cost for record in records if record.cost is not None]
    assert {cost.total_parameters for cost in costs} == {find("tiny").shapes.parameters}
    assert len({cost.base_forward_flops for cost in costs}) == 1
    starts = [record.fit.first_loss for record in records if record.fit is not None]
    assert starts[0] != starts[1], "untrained both answer as their base does"
    (qlora,) = (record for record in records if record.spec.method.name == "qlora")
    (repeated,) = runs(again, "qlora")
    folder, other = (store.folder(qlora.run_id) for store in (first, again))
    assert folder.predictions.read_bytes() == other.predictions.read_bytes()
    weights = "adapter_model.safetensors"
    assert (folder.adapter / weights).read_bytes() == (other.adapter / weights).read_bytes()
    assert repeated.fit is not None
    assert qlora.fit is not None
    assert repeated.fit.last_loss == qlora.fit.last_loss

    method = find_method("qlora", {}).method
    base = packed(Path(str(files("peftbench.models") / "tiny")))
    with attached(method, base) as adapter:
        method.load(adapter.module, base, folder.adapter)
        adapter.module.eval()
        with torch.no_grad():
            own = adapter.module(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits
    model, output = str(files("peftbench.models") / "tiny"), str(tmp_path / "logits.safetensors")
    command = [sys.executable, "-c", READER, model, str(folder.adapter), output]
    subprocess.run(command, check=True)
    assert furthest(own, load_file(output)["logits"]) < 1e-5
    assert "bitsandbytes" in qlora.environment.packages


@pytest.mark.gpu
def test_a_base_is_packed_on_the_gpu(folders: dict[str, Path]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    facts = find(str(folders["llama"]))
    ref = ModelRef(name=facts.name, revision=facts.revision, quantization="nf4")
    base = load(ref, facts, torch.device("cuda"))
    assert {value.device.type for value in base.model.parameters()} == {"cuda"}
    assert base.parameters == facts.shapes.parameters
    with attached(Lora(), base) as adapter:
        perturb(adapter)
        assert bool(reference_logits(adapter.module, base).isfinite().all())
