"""Writes docs/reference/methods.md from the cards of the shipped methods; a test holds the page to be current."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from peftbench.method_card import MethodCard, method_card, on_model
from peftbench.methods._method import FAMILIES, build
from peftbench.methods._paper import Paper
from peftbench.methods._probed import CAPABILITIES
from peftbench.methods._variants import named, names
from peftbench.report._format import listed, share_of, whole
from peftbench.testing.shapes import llama_3_8b

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "methods.md"

_MARKS = {True: "✓", False: "✗", None: " "}
_HEAD = """# Methods

Written by `scripts/write_methods.py` from the cards of the methods (`peftbench show method NAME`). Parameters are those
of the defaults on a model of the shape of Llama-3-8B, {parameters} parameters, by closed formulas. What a method can do
was found by trying, on tiny models with {libraries}.
"""


def cards() -> list[MethodCard]:
    """The cards of all shipped methods and variants on that shape, in the order of names."""
    every = [name for name in names() if named(name).member.plugin is None]
    return [_on_llama(name) for name in every]


def _on_llama(name: str) -> MethodCard:
    found = named(name)
    method = build(found.member.name, found.member.value, found.settings)
    return method_card(name).model_copy(update={"on_model": on_model(method, llama_3_8b())})


def page() -> str:
    """The whole page."""
    every = cards()
    libraries = listed([f"{name} {version}" for name, version in every[0].libraries.items()])
    parts = [
        _HEAD.format(parameters=whole(llama_3_8b().shapes.parameters), libraries=libraries),
        "\n".join(_families(every)),
        "\n".join(_table(every)),
        "\n".join(_capabilities(every)),
    ]
    return "\n".join(parts)


def _families(every: Sequence[MethodCard]) -> Iterator[str]:
    yield "## Families\n"
    yield "Named as surveys do (arXiv 2303.15647, 2312.12148, 2403.14608), prompts apart from what is additive.\n"
    for family, means in FAMILIES.items():
        members = [card.name for card in every if card.family == family and not card.variant_of]
        if members:
            yield f"- **{family}**, {means}: {', '.join(members)}"
    yield ""


def _table(every: Sequence[MethodCard]) -> Iterator[str]:
    yield "## All methods and variants\n"
    yield "| name | family | paper | learning rate | size | trained on Llama-3-8B | of the model |"
    yield "|---|---|---|--:|---|--:|--:|"
    for card in every:
        on = card.on_model
        assert on is not None
        name = f"{card.name} ({card.variant_of})" if card.variant_of else card.name
        rate = f"{card.learning_rate:g}" if card.trains else "–"
        cells = (
            name,
            card.family,
            _paper(card.paper),
            rate,
            _size(card),
            "as the data decide" if on.by_data else whole(on.trained),
            share_of(on.trained, on.parameters),
        )
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _size(card: MethodCard) -> str:
    """The hyperparameter that says how much is trained, with its default where it has one."""
    (value,) = [one.default for one in card.hyperparameters if one.name == card.size] or [None]
    return f"{card.size}={value}" if value is not None else card.size or "–"


def _paper(paper: Paper | None) -> str:
    if paper is None:
        return "–"
    return f"[{paper.short}]({paper.link})" if paper.link else paper.short


def _capabilities(every: Sequence[MethodCard]) -> Iterator[str]:
    yield "## What they can do\n"
    yield "✓ it can, ✗ it cannot, and nothing where there is nothing to try.\n"
    keys = dict(zip(CAPABILITIES, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", strict=False))
    for name, key in keys.items():
        yield f"- **{key}** {name}: {CAPABILITIES[name]}"
    yield f"\n| name | {' | '.join(keys.values())} |"
    yield f"|---|{':-:|' * len(keys)}"
    for card in every:
        yield f"| {card.name} | {' | '.join(_MARKS[one.holds] for one in card.capabilities)} |"
    yield "\n## Why not\n"
    for name in keys:
        yield from _why(name, every)


def _why(capability: str, every: Sequence[MethodCard]) -> Iterator[str]:
    """Those that cannot do something, by what was found."""
    reasons: dict[str, list[str]] = {}
    for card in every:
        for one in card.capabilities:
            if one.name == capability and one.holds is False:
                # What the library says of each of its tuners alike is said once.
                reasons.setdefault(re.sub(r"peft's \w+Config", "peft's tuner", one.detail), []).append(card.name)
    if reasons:
        yield f"**{capability.capitalize()}**\n"
        for reason, members in reasons.items():
            yield f"- {', '.join(members)}: {reason}"
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
