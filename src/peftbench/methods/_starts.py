"""Starts of LoRA that are computed from training examples, put into a freshly attached plain LoRA.

What looks at the base for a start sees it as it is: plain LoRA adds nothing yet.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.errors import MethodProblem
from peftbench.methods._adapter_files import refuse_others
from peftbench.methods._method import Example

if TYPE_CHECKING:
    import torch

_ADAPTER = "default"
# EVA: no layer gets more than so many times the rank, as the library has it (the paper's rho).
_RHO = 2.0
# EVA: the tokens of a batch, and the batches after which components that still turn are given up.
_TOKENS = 2048
_PATIENCE = 100
# CorDA: the examples whose inputs are weighed, as many as the paper takes.
_WEIGHED = 256


def eva(model: Any, examples: Sequence[Example]) -> None:
    """Start A at the principal components of what goes into each layer, and share ranks out by explained variance.

    The components are those of every token of prompts and answers, and are found batch by batch until they stay where
    they are. A layer gets at most twice the rank, less where it is narrower than four ranks, and may get none: then it
    is left out of the `PeftModel`. Paischer et al., 2024 (arXiv 2410.07170, section 3).

    Raises:
        MethodProblem: a layer is narrower than two ranks, the tokens are too few, or the components do not settle.
    """
    import peft

    config = model.peft_config[_ADAPTER]
    narrowest = min(layer.in_features for _, layer in _layers(model))
    # The library looks for twice as many components as it keeps, and there are no more than inputs.
    components = min(round(_RHO * config.r), narrowest // 2)
    if components < config.r:
        raise MethodProblem(
            f"EVA looks for {2 * config.r} components, and a layer has {narrowest} inputs.", "Choose a smaller r."
        )
    batches = _batches(examples, _TOKENS, least=2 * components)
    config.init_lora_weights, config.eva_config = "eva", peft.EvaConfig(rho=components / config.r)
    peft.initialize_lora_eva_weights(
        model,
        batches,
        forward_fn=_Bounded(config.r),
        prepare_model_inputs_fn=lambda inputs, _: inputs["attention_mask"].flatten().bool(),
        prepare_layer_inputs_fn=lambda inputs, real, _: inputs[0].reshape(-1, inputs[0].shape[-1])[real],
        show_progress_bar=False,
    )
    _in_32_bits(model)


class _Bounded:
    """Shows a batch to a model, so often and no more: the library goes on until all components have settled."""

    def __init__(self, rank: int) -> None:
        self._rank, self._shown = rank, 0

    def __call__(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> None:
        # The first is shown once more, to find the layers that see the same.
        if self._shown > _PATIENCE:
            raise MethodProblem(
                f"After {_PATIENCE} batches the principal components of some layer's inputs still turn.",
                f"Choose an r below {self._rank}, or train on more rows.",
            )
        self._shown += 1
        model(**inputs, use_cache=False, logits_to_keep=1)


def _batches(examples: Sequence[Example], tokens: int, least: int) -> list[dict[str, torch.Tensor]]:
    """All examples in their order, padded on the right, each batch as soon as it has so many tokens.

    Raises:
        MethodProblem: they have fewer than `least` tokens together; a rest that has fewer goes with the batch before.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    groups: list[list[torch.Tensor]] = []
    size = tokens
    for example in examples:
        row = torch.tensor([*example.prompt, *example.answer])
        if size >= tokens:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row)
    if len(groups) > 1 and size < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    elif size < least:
        raise MethodProblem(
            f"EVA needs {least} tokens to find its components, and the training examples have {size}.",
            "Train on more rows, or choose a smaller r.",
        )
    return [
        {
            "input_ids": pad_sequence(rows, batch_first=True),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
        for rows in groups
    ]


def corda(model: Any, examples: Sequence[Example]) -> None:
    """Start A and B at what of a weight answers most to its inputs, and take their product away from it.

    These are the largest singular vectors of the weight times the covariance of its inputs, the mode that looks at
    what is about to be learned. The inputs are those of the first 256 examples. Yang et al., 2024 (arXiv 2406.05223,
    section 3).
    """
    import torch
    from peft.tuners.lora.config import CordaConfig

    base = model.get_base_model()
    device = next(base.parameters()).device

    def look() -> None:
        for example in examples[:_WEIGHED]:
            base(input_ids=torch.tensor([[*example.prompt, *example.answer]], device=device), use_cache=False)

    config = _of_base(model)
    config.corda_config = CordaConfig(corda_method="ipm")
    _library_of_corda().preprocess_corda(base, config, look)
    _take(model, lambda layer: layer.corda_init(_ADAPTER, "corda"))


def _library_of_corda() -> Any:
    """The library's file, which takes its dataclasses from a package that the library does not ask for."""
    lacking = importlib.util.find_spec("attr") is None
    if lacking:
        sys.modules["attr"] = dataclasses
    try:
        return importlib.import_module("peft.tuners.lora.corda")
    finally:
        if lacking:
            del sys.modules["attr"]


def _of_base(model: Any) -> Any:
    """The configuration of a plain LoRA, its targets the layers of the base that it stands beside."""
    config = copy.copy(model.peft_config[_ADAPTER])
    config.target_modules = [f"{name}.base_layer" for name, _ in _layers(model)]
    return config


def _take(model: Any, put: Callable[[Any], None]) -> None:
    """Put a start into each layer, and take what it adds away from the weight; `started` of the model is that start."""
    import torch

    with torch.no_grad():
        for _, layer in _layers(model):
            weight = layer.get_base_layer().weight
            whole = weight.data
            put(layer)
            # What the library left is thrown away, so that loading can do the very same.
            weight.data = whole
    _in_32_bits(model)
    take_away(model)


def take_away(model: Any) -> None:
    """Take what an adapter adds away from the weights of its base, and keep it as the start in `model.started`."""
    import torch

    model.started = {name: value.detach().clone() for name, value in _factors(model)}
    with torch.no_grad():
        for _, layer in _layers(model):
            weight = layer.get_base_layer().weight
            weight.data = (weight.data.float() - layer.get_delta_weight(_ADAPTER).float()).to(weight.dtype)


def save_beside_whole_base(model: Any, folder: Path) -> None:
    """Write `B A - B0 A0` as a plain LoRA of twice the rank, so that it fits the base with nothing taken away."""
    config = model.peft_config[_ADAPTER]
    state = {name: _side_by_side(name, value.detach(), model.started[name]) for name, value in _factors(model)}
    plain = copy.copy(config)
    # The scale stays what it is.
    plain.lora_alpha *= 2**0.5 if config.use_rslora else 2
    plain.r *= 2
    model.peft_config[_ADAPTER] = plain
    try:
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=state)
    finally:
        model.peft_config[_ADAPTER] = config


def _side_by_side(name: str, trained: torch.Tensor, started: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([trained, started]) if ".lora_A." in name else torch.cat([trained, -started], dim=1)


def load_beside_whole_base(model: Any, folder: Path) -> None:
    """Read what `save_beside_whole_base` wrote, and take its start away from the base once more.

    Raises:
        MethodProblem: it is one for another model or other settings.
    """
    import peft

    state = peft.utils.load_peft_weights(str(folder), device="cpu")
    refuse_others(state, peft.get_peft_model_state_dict(model, save_embedding_layers=False), folder)
    halves = {name: value.chunk(2, dim=0 if ".lora_A." in name else 1) for name, value in state.items()}
    signs = {name: 1 if ".lora_A." in name else -1 for name in halves}
    peft.set_peft_model_state_dict(model, {name: signs[name] * start for name, (_, start) in halves.items()})
    take_away(model)
    peft.set_peft_model_state_dict(model, {name: trained for name, (trained, _) in halves.items()})


def make_room(model: Any, folder: Path) -> None:
    """Give each layer of a plain LoRA the rank and the scale that it has in a saved adapter, or take it out."""
    import peft
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    config = peft.PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    base = model.get_base_model()
    for name, layer in _layers(model):
        if check_target_module_exists(config, name):
            r, alpha = (
                pattern.get(get_pattern_key(pattern, name), usual)
                for pattern, usual in ((config.rank_pattern, config.r), (config.alpha_pattern, config.lora_alpha))
            )
            layer.update_layer(_ADAPTER, r=r, lora_alpha=alpha, config=config)
        else:
            parent, _, last = name.rpartition(".")
            setattr(base.get_submodule(parent), last, layer.get_base_layer())
    model.peft_config[_ADAPTER] = config
    _in_32_bits(model)


def _layers(model: Any) -> list[tuple[str, Any]]:
    """The layers that have an adapter, by their names in the base."""
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in model.get_base_model().named_modules() if isinstance(layer, LoraLayer)]


def _factors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """All A and B."""
    return ((name, value) for name, value in model.named_parameters() if ".lora_" in name)


def _in_32_bits(model: Any) -> None:
    """What is made anew is as precise as the base, and what is trained is to be more."""
    model.base_model._cast_adapter_dtype(_ADAPTER)  # noqa: SLF001 - the library does so itself after it attached


STARTS: Mapping[str, Callable[[Any, Sequence[Example]], None]] = {"eva": eva, "corda": corda}
# Those of them that take what they start at away from the base's weights.
TAKING = ("corda",)
