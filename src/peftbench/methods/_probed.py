"""What methods can do, as it was found by trying: of the members of the package it is kept in a file beside this one.

So a card needs no torch. `scripts/write_capabilities.py` writes the file, and a test holds it against fresh probes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from pydantic import JsonValue

from peftbench.spec import Value

FILE = "_probed.json"

# What is tried, in the order of a card, and what holds where it can be done.
CAPABILITIES: Mapping[str, str] = {
    "identity at start": "Untrained, the model answers as before.",
    "causal": "No answer knows tokens to come.",
    "padding": "Padding and the other rows of a batch change no answer.",
    "packing": "Examples in one row, kept apart by mask and positions, are answered as each alone.",
    "cache": "Continued from a cache of keys and values, answers are the same.",
    "merging": "Folded into the weights, nothing is left beside them and answers are the same.",
    "grouped queries": "It trains where several query heads share keys and values.",
    "transposed layers": "It trains on GPT-2, whose linear layers are transposed.",
    "quantised base": "It works on a base whose linear layers are packed into 4 bits.",
    "16-bit base": "It trains on a base in bfloat16, itself in 32 bits.",
    "gradient checkpointing": "With activations computed again, gradients are the same.",
}


class Capability(Value):
    """One thing a method can or cannot do; `holds` is None where there is nothing to try, and `detail` says why.

    Where it does not hold, `detail` says what was found.
    """

    name: str
    holds: bool | None
    detail: str


class Probed(Value):
    """All that was tried with one version of a method."""

    version: int
    capabilities: tuple[Capability, ...]


class ProbedMethods(Value):
    """What was found with these versions of libraries, by the name of a method or variant."""

    libraries: dict[str, str]
    methods: dict[str, Probed]


def libraries() -> dict[str, str]:
    """The versions on which it depends what is found, of what is installed."""
    found: dict[str, str] = {}
    for name in ("torch", "transformers", "peft", "bitsandbytes"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def probed_methods() -> ProbedMethods:
    """What is known of the shipped methods and their variants."""
    data: dict[str, JsonValue] = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return ProbedMethods.parse(data, FILE)
