"""What `galore-torch` makes of weights and gradients; run by an interpreter that has it, and not this package.

    python galore_library.py GIVEN.safetensors '[["EXPECTED.safetensors", {"rank": 2, "lr": 0.01, ...}], ...]'

`GIVEN` has the weights `NAME` and their gradients of all steps, `NAME.gradients` [steps, ...]; those of two dimensions
are projected, and decayed. Each `EXPECTED` gets the weights after every step, as `NAME` [steps, ...].
"""

from __future__ import annotations

import json
import sys
from typing import Any


def follow(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The weights after every step of the library's optimiser."""
    import torch
    from galore_torch import GaLoreAdamW

    weights = {name: torch.nn.Parameter(value) for name, value in given.items() if not name.endswith(".gradients")}
    common = {key: settings.pop(key) for key in ("lr", "eps")}
    flat = [value for value in weights.values() if value.ndim < 2]
    square = [value for value in weights.values() if value.ndim == 2]
    optimizer = GaLoreAdamW([{"params": flat}, {"params": square, **settings}], **common, no_deprecation_warning=True)
    steps: dict[str, list[Any]] = {name: [] for name in weights}
    for number in range(len(given[f"{next(iter(weights))}.gradients"])):
        for name, value in weights.items():
            value.grad = given[f"{name}.gradients"][number].clone()
        optimizer.step()
        for name, value in weights.items():
            steps[name].append(value.detach().clone())
    return {name: torch.stack(found) for name, found in steps.items()}


if __name__ == "__main__":
    from safetensors.torch import load_file, save_file

    for place, settings in json.loads(sys.argv[2]):
        save_file(follow(load_file(sys.argv[1]), settings), place)
