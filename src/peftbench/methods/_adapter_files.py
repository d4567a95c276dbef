"""The files of an adapter's folder: what they are called, and how they are written and read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.errors import MethodProblem

if TYPE_CHECKING:
    from torch import nn

CONFIG = "adapter_config.json"
# What the `peft` library writes, and what a run writes of another method.
OF_LIBRARY = "adapter_model.safetensors"
OF_OTHERS = "adapter.safetensors"
WEIGHTS = (OF_LIBRARY, OF_OTHERS)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        MethodProblem: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MethodProblem(f"{path} cannot be read: {error.strerror}.", "See who may read it.") from error
    except ValueError as error:
        raise MethodProblem(f"{path} is no JSON: {error}.", "Mend it, or write it with save_pretrained.") from error
    if not isinstance(found, dict):
        raise MethodProblem(f"{path} holds no mapping.", "Write it with save_pretrained.")
    return found


def write_trained(module: nn.Module, folder: Path) -> None:
    """Write the trained parameters of an attached module into a folder, as safetensors."""
    from safetensors.torch import save_file

    trained = {name: value.detach().contiguous() for name, value in module.named_parameters() if value.requires_grad}
    save_file(trained, folder / OF_OTHERS)


def read_trained(module: nn.Module, folder: Path) -> None:
    """Read what `write_trained` wrote into a freshly attached module.

    Raises:
        MethodProblem: it has other tensors.
    """
    import torch
    from safetensors.torch import load_file

    saved = load_file(folder / OF_OTHERS)
    own = {name: value for name, value in module.named_parameters() if value.requires_grad}
    refuse_others(saved, own, folder)
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(saved[name])


def refuse_others(saved: Iterable[str], own: Iterable[str], folder: Path) -> None:
    """Refuse an adapter whose tensors are not, by name, those of the attached method.

    Raises:
        MethodProblem: some are lacking, or there are others.
    """
    fix = "Copy it again, as a whole, or take the model and the settings that it was trained with."
    if lacking := sorted({*own} - {*saved}):
        raise MethodProblem(f"The adapter in {folder} lacks {lacking[0]}{_more(lacking)}.", fix)
    if odd := sorted({*saved} - {*own}):
        raise MethodProblem(f"The adapter in {folder} has {odd[0]}{_more(odd)}, for which there is no place.", fix)


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
