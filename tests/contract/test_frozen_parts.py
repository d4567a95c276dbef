"""What methods draw or compute once and freeze: it is the same wherever their adapter is loaded."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench import registry
from peftbench.methods._attach import Adapter, attached
from peftbench.methods._method import build
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel
from peftbench.testing.models import load_here, tiny
from peftbench.testing.toy import furthest, perturb, reference_logits


@contextlib.contextmanager
def trained(name: str, base: LoadedModel, **settings: Any) -> Iterator[Adapter]:
    with attached(build(name, registry.load("methods", name).value, settings), base) as adapter:
        perturb(adapter)
        yield adapter


def _turned(module: nn.Module) -> None:
    """Frozen singular vectors as another machine may find them: pairs of them are the opposite."""
    for name, value in module.named_buffers():
        if "_psoft_A_cache" in name:
            value[0].neg_()
        if "_psoft_B_cache" in name:
            value[:, 0].neg_()


def _unchanged(module: nn.Module) -> None:
    del module


@pytest.mark.parametrize(("elsewhere", "with_bases", "alike"), [
    (_unchanged, True, True),
    (_unchanged, False, True),
    (_turned, True, True),
    (_turned, False, False),
])  # fmt: skip
def test_psoft_loads_where_singular_vectors_come_out_turned(
    elsewhere: Callable[[nn.Module], None], tmp_path: Path, *, with_bases: bool, alike: bool
) -> None:
    """What the library saves alone is another adapter there."""
    base = tiny("llama", tmp_path / "llama")
    (folder := tmp_path / "adapter").mkdir()
    with trained("psoft", base, r=4) as adapter:
        before = reference_logits(adapter.module, base)
        adapter.method.save(adapter.module, base, folder)
    if not with_bases:
        (folder / "psoft_bases.safetensors").unlink()
    with trained("psoft", base, r=4) as adapter:
        elsewhere(adapter.module)
        adapter.method.load(adapter.module, base, folder)
        distance = furthest(before, reference_logits(adapter.module, base))
    assert (distance < 1e-6) == alike, distance
    shutil.rmtree(folder)


def test_osf_leaves_the_stronger_directions_alone(tmp_path: Path) -> None:
    """The gradient of the trained directions is orthogonal to those that are kept."""
    base = tiny("llama", tmp_path / "llama")
    weight = base.model.get_parameter("model.layers.0.self_attn.q_proj.weight").detach()
    strong = torch.linalg.svd(weight)[0][:, :28]
    with attached(build("osf", registry.load("methods", "osf").value, {"trainable_rank": 4}), base) as adapter:
        reference = adapter.module(torch.tensor([[5, 10, 11]]))
        reference.logits.logsumexp(dim=-1).sum().backward()
        name = next(key for key in adapter.trainable if "layers.0.self_attn.q_proj" in key and "U_low" in key)
        gradient = adapter.trainable[name].grad
        assert gradient is not None
        assert gradient.shape == (32, 4)
        assert float(gradient.abs().max()) > 1e-4
        assert float((strong.T @ gradient).abs().max()) < 1e-5 * float(gradient.abs().max())


def test_embeddings_that_are_tied_stay_tied(tmp_path: Path) -> None:
    untied = tiny("llama", tmp_path / "untied")
    config = AutoConfig.from_pretrained(tmp_path / "untied", tie_word_embeddings=True)
    shutil.copytree(tmp_path / "untied", tmp_path / "tied")
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tied")
    tied = load_here(find(str(tmp_path / "tied")))
    method = build("trainable_tokens", registry.load("methods", "trainable_tokens").value, {"num_tokens": 7})
    for base, moves in ((tied, True), (untied, False)):
        before = base.model.get_output_embeddings().weight.detach().clone()  # type: ignore[operator]
        with attached(method, base, to_merge=True) as adapter:
            assert adapter.parameters == 7 * 32
            perturb(adapter)
            merged: Any = method.merge(adapter.module, base)
            head, table = merged.get_output_embeddings().weight, merged.get_input_embeddings().weight
            assert (head is table) == moves
            assert bool((head[:7] != before[:7]).any()) == moves
            assert torch.equal(head[7:], before[7:])
