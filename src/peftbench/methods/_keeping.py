"""Writing an adapter, and where no test knows who writes it, whether what was written is all there is to it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from peftbench.errors import MethodProblem
from peftbench.methods._attach import Adapter
from peftbench.methods._method import Base, Method

Precision = Literal["fp32", "bf16"] | None

# Tokens that are asked before and after, and how far answers may be apart beside the largest.
_ASKED = (1, 2, 3, 4)
_ROUNDING = 1e-4


def keep(adapter: Adapter, base: Base, folder: Path, precision: Precision) -> None:
    """Save an adapter into an empty folder; if own code does it, see whether it answers as before when it is read back.

    It is asked in the `precision` in which it answered.

    Raises:
        MethodProblem: it does not.
    """
    adapter.method.save(adapter.module, base, folder)
    if _of_ones_own(adapter.method):
        _require_the_same(adapter, base, folder, precision)


def _of_ones_own(method: Method) -> bool:
    """Whether it saves or loads in code that is not shipped: what is shipped is held to its word by tests."""
    functions = (type(method).save, type(method).load)
    return any(function.__module__.partition(".")[0] != __package__.partition(".")[0] for function in functions)


def _require_the_same(adapter: Adapter, base: Base, folder: Path, precision: Precision) -> None:
    before, trained = _answers(adapter, precision), adapter.state()
    with torch.no_grad():
        for value in adapter.trainable.values():
            value.fill_(float("nan"))
    try:
        adapter.method.load(adapter.module, base, folder)
        lost = [name for name, value in adapter.trainable.items() if value.isnan().any()]
        after = _answers(adapter, precision)
    finally:
        adapter.put(trained)
    if not torch.allclose(before, after, rtol=0, atol=_ROUNDING * max(1.0, float(before.abs().max()))):
        what = f"`save` loses {lost[0]!r}" if lost else "What `save` wrote"
        raise MethodProblem(
            f"{what}: read by `load`, the adapter answers otherwise.", "Write every trained tensor, and read it again."
        )


def _answers(adapter: Adapter, precision: Precision) -> torch.Tensor:
    device = next(iter(adapter.trainable.values())).device
    ids = torch.tensor([_ASKED], device=device)
    places = torch.arange(len(_ASKED), device=device)[None]
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        output = adapter.module.eval()(
            input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=places, use_cache=False
        )
    logits: torch.Tensor = output.logits.float()
    return logits
