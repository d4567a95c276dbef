"""Loading: safetensors only, remote code off unless asked for, a GGUF folder unpacked once into the cache."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from peftbench.cache import cache_folder
from peftbench.errors import MissingExtra, ModelProblem, first_line
from peftbench.file_lock import lock_file
from peftbench.models._attention import know_segments
from peftbench.models._chat import Chat, Encoded
from peftbench.models._facts import ModelFacts, gguf_file
from peftbench.models._packed import keep_layout, numbers, packing_options
from peftbench.models._reading import reading_errors
from peftbench.spec import ModelRef

# Loading bars and length warnings of the library would break our own progress line; what they say, we record.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

# Names and sizes of the files of a model in the cache, written last.
_LIST = "unpacked.txt"


@dataclass(frozen=True)
class LoadedModel:
    """A frozen base in memory, its tokenizer, how to speak to it, and what is known of it.

    `examples` are those that training on it begins with, in their order, for a method that looks at some first.
    """

    model: nn.Module
    tokenizer: Any
    chat: Chat
    facts: ModelFacts
    device: torch.device
    examples: Sequence[Encoded] = ()

    @property
    def parameters(self) -> int:
        """Number of parameters, of packed ones as many as they were; tied ones count once."""
        return sum(numbers(parameter) for parameter in self.model.parameters())

    def showing(self, examples: Sequence[Encoded]) -> LoadedModel:
        """The same base, with the examples that it is about to be trained on."""
        return replace(self, examples=examples)


def load(ref: ModelRef, facts: ModelFacts, device: torch.device) -> LoadedModel:
    """Load a model for training and evaluation, all its parameters frozen.

    Raises:
        ModelProblem: the weights, the tokenizer or its chat template cannot be read.
        MissingExtra: the package that packs the weights is not installed.
    """
    packed = packing_options(ref, facts, device)
    with reading_errors(f"The model {ref.name} cannot be loaded", facts):
        if facts.folder is None:
            source, revision = ref.name, ref.revision
        else:
            source, revision = str(_unpacked(facts.folder, facts.revision)), None
        options = {"revision": revision, "trust_remote_code": ref.trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        # Which attention is used is the library's choice: it knows the families that its fused one gets wrong.
        model = _whole(ref.name, source, dtype=getattr(torch, ref.dtype), use_safetensors=True, **options, **packed)
        know_segments(model)
    with reading_errors(f"The chat template of {ref.name} cannot be used", facts):
        chat = Chat(tokenizer, ref.chat)
    model.requires_grad_(requires_grad=False)
    model.eval()
    if packed:
        keep_layout(model)
    else:
        model.to(device)
    return LoadedModel(model, tokenizer, chat, replace(facts, quantization=ref.quantization), device)


def _whole(name: str, source: str, **options: Any) -> Any:
    """A model all of whose weights come from its files: those that lack there the library draws at random.

    Tied weights are in the files once, and do not lack.

    Raises:
        ModelProblem: weights lack, or have other shapes than the configuration says.
    """
    # Told of by us: by itself the library says no more than that something does not fit.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = AutoModelForCausalLM.from_pretrained(source, **options)
    if missing := sorted(info["missing_keys"]):
        raise ModelProblem(
            f"The files of the model {name} lack {len(missing)} of its tensors, such as {missing[0]}.",
            "Copy the whole model: what lacks would be random numbers.",
        )
    if other := sorted(info["mismatched_keys"]):
        tensor, found, wanted = other[0]
        raise ModelProblem(
            f"In the files of the model {name} {tensor} has the shape {tuple(found)}, not {tuple(wanted)} "
            f"(tensors of another shape: {len(other)}).",
            "Weights and config.json have to be of the same model.",
        )
    return model


def pick_device(wanted: str) -> torch.device:
    """The device asked for; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ModelProblem: the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, found in there.items() if found)
    if not there[wanted]:
        raise ModelProblem(f"This machine has no {wanted} device.", "Use --device auto.")
    return torch.device(wanted)


def _unpacked(folder: Path, revision: str) -> Path:
    """The folder to load from: a packed model is unpacked once into the cache, under the hash of its content.

    Raises:
        ModelProblem: the model cannot be unpacked, or the cache cannot be written.
    """
    packed = gguf_file(folder)
    if packed is None:
        return folder
    target = cache_folder("unpacked") / f"{folder.name}-{revision}"
    if _all_there(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # One process unpacks; the others wait, and take what it made.
        with (target.parent / f"{target.name}.lock").open("ab") as file:
            lock_file(file, wait=True)
            if not _all_there(target):
                _unpack_into(folder, packed, target)
    except OSError as error:
        raise ModelProblem(
            f"{folder} cannot be unpacked into {target.parent}: {error.strerror or first_line(error)}.",
            "Make room there, or set XDG_CACHE_HOME to another folder.",
        ) from error
    return target


def _unpack_into(folder: Path, packed: Path, target: Path) -> None:
    """The whole folder or nothing; what is left of one that somebody tidied up goes away."""
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        made = Path(partial) / "model"
        _unpack(folder, packed, made)
        sizes = {path.name: path.stat().st_size for path in made.iterdir()}
        (made / _LIST).write_text(json.dumps(sizes), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


def _all_there(target: Path) -> bool:
    """Whether nothing is missing of what was unpacked: a cache is tidied by whoever likes to."""
    try:
        sizes = json.loads((target / _LIST).read_text(encoding="utf-8"))
        return all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _unpack(folder: Path, packed: Path, target: Path) -> None:
    try:
        import gguf  # noqa: F401 - transformers reads GGUF through it
        from transformers import GgufConfig
    except ImportError:
        raise MissingExtra("gguf", "gguf") from None
    # Without `dequantize` transformers 5 keeps the weights packed, and packed weights cannot be trained.
    how = GgufConfig(dequantize=True)
    model = _whole(str(folder), str(folder), gguf_file=packed.name, dtype=torch.float16, quantization_config=how)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    for template in folder.glob("*.jinja"):
        shutil.copy(template, target / template.name)
