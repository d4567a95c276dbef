"""The files of an adapter's folder: what they are called, and how their JSON is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peftbench.errors import MethodProblem

CONFIG = "adapter_config.json"
# What the `peft` library writes, and what a run writes of another method.
OF_LIBRARY = "adapter_model.safetensors"
WEIGHTS = (OF_LIBRARY, "adapter.safetensors")


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
