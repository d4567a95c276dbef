"""The card of a method in the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from peftbench.method_card import Earlier, Hyperparameter, MethodCard, OnModel, Sizes, VariantCard
from peftbench.methods._probed import CAPABILITIES, Capability
from peftbench.report._format import ABSENT, line, listed, plain, plural, share_of, size, whole
from peftbench.show_card import pairs, section

_MARKS = {True: ("yes", "green"), False: ("no", "red"), None: (ABSENT, "dim")}


def method_view(card: MethodCard) -> RenderableType:
    """A card as a page, made for 80 columns."""
    parts: list[RenderableType] = [Text(_title(card), style="bold"), Text(""), pairs(_facts(card))]
    if card.what:
        parts += section("What it is", *_paragraphs(card.what))
    if card.hyperparameters:
        parts += section("Hyperparameters", _hyperparameters(card))
    if card.variants:
        parts += section("Variants", _variants(card.variants))
    if card.on_model is not None:
        parts += section(f"On {line(card.on_model.model)}", pairs(_on_model(card, card.on_model)))
    if card.earlier is None:
        parts += section("What it can do", *_capabilities(card))
    if card.on_model is None and card.earlier is None:
        parts += [Text(""), _note("What it trains of a model, and which sizes there are: --model MODEL")]
    return Group(*parts)


def _note(text: str) -> Text:
    return Text(text, style="dim")


def _title(card: MethodCard) -> str:
    """The first line of its file, without the paper, which has a line of its own."""
    about = line(card.about) or card.name
    if card.variant_of:
        about = f"{card.name}: {card.variant_of}, {about}"
    return about.rpartition(" (")[0] if card.paper and about.rstrip(".").endswith(")") else about.rstrip(".")


def _facts(card: MethodCard) -> dict[str, str]:
    of = f", a variant of {card.variant_of}" if card.variant_of else ""
    said = card.paper
    unsaid = "" if card.earlier else "not said"
    facts = {
        "method": f"{card.name}, version {card.version}{of}",
        "family": ": ".join(filter(None, (card.family or unsaid, card.family_means))),
        "paper": said.short if said else "",
        "": (said.link or "") if said else "",
        "learning rate": f"{card.learning_rate:g}" if card.trains else "",
        "size": _size(card),
        **_earlier(card.earlier),
        "plugin": card.plugin or "",
    }
    return {name: line(text) for name, text in facts.items() if text}


def _size(card: MethodCard) -> str:
    """Which setting says how much is trained; one that is none of its own is that of the method that it wraps."""
    if card.size is None:
        return ""
    own = any(one.name == card.size for one in card.hyperparameters)
    return f"{card.size}{'' if own else ' of what it wraps'} says how much is trained"


def _earlier(kept: Earlier | None) -> dict[str, str]:
    """How much was trained before, and on what."""
    if kept is None:
        return {}
    on = ", ".join(filter(None, (kept.model, f"revision {kept.revision}" if kept.revision else "")))
    how_much = f"{whole(kept.parameters)} numbers" + (f", {size(kept.bytes)}" if kept.bytes is not None else "")
    return {"adapter": how_much, "trained on": on or "not said"}


def _paragraphs(text: str) -> list[RenderableType]:
    """The paragraphs of a docstring, each as wide as the page."""
    first, *others = [_prose(line(paragraph)) for paragraph in plain(text).split("\n\n")]
    return [first, *(Padding(paragraph, (1, 0, 0, 0)) for paragraph in others)]


def _prose(text: str) -> Text:
    """Text whose names and formulas, between backticks, stand out."""
    shown = Text(text)
    shown.highlight_regex(r"`[^`]+`", style="cyan")
    return shown


def _hyperparameters(card: MethodCard) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("name", no_wrap=True)
    table.add_column("default", overflow="fold", min_width=8, max_width=16)
    table.add_column("meaning", overflow="fold")
    shown: dict[str, str] = {}
    for one in card.hyperparameters:
        name = Text(one.name, style="bold" if one.name == card.size else "")
        table.add_row(name, Text(_value(one.default)), _prose(_meaning(one, shown)))
        shown.setdefault(one.meaning, one.name)
    return table


def _meaning(one: Hyperparameter, shown: dict[str, str]) -> str:
    """What it is; where one clause says it of several, it stands with the first."""
    said = f"see {shown[one.meaning]}" if one.meaning in shown and one.meaning else line(one.meaning)
    unsaid = [choice for choice in one.choices if choice not in one.meaning]
    choices = f"one of {', '.join(one.choices)}" if unsaid and len(one.choices) > 1 else ""
    return "; ".join(text for text in (said, choices) if text)


def _value(value: JsonValue) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return line(value) if isinstance(value, str) else json.dumps(value)


def _variants(variants: Sequence[VariantCard]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in variants:
        settings = ", ".join(f"{key}={_value(value)}" for key, value in one.settings.items())
        table.add_row(Text(one.name), Text.assemble(f"{line(one.about)} ", (settings, "dim")))
    return table


def _on_model(card: MethodCard, on: OnModel) -> dict[str, str]:
    facts = {"parameters": whole(on.parameters)}
    if on.unfit is not None:
        return {**facts, "it does not fit": line(on.unfit)}
    if on.quantization is not None:
        facts["its base"] = f"packed into {on.quantization}"
    if on.lacking is not None:
        facts["not here"] = line(on.lacking)
    if on.caution is not None:
        facts["beware"] = line(on.caution)
    formula = "not known by a formula: --attach counts them" if on.attached is None else "no formula"
    formula = "what the training examples decide: the record of a run says how much" if on.by_data else formula
    of_base = share_of(on.trained, on.parameters)
    facts["trained"] = formula if on.trained is None else f"{whole(on.trained)}, {of_base} of the model"
    if on.attached is not None:
        facts["attached"] = f"{whole(on.attached)}, {share_of(on.attached, on.parameters)} of the model"
    if on.virtual_tokens:
        facts["context"] = f"{plural(on.virtual_tokens, 'position')} taken"
    if on.sizes is not None and card.size is not None:
        facts[line(card.size)] = _sizes(on.sizes)
    return facts


def _sizes(sizes: Sizes) -> str:
    values = [_value(value) for value in sizes.values]
    if sizes.count > len(values):
        values.insert(-1, "…")
    trains = f": {whole(sizes.least)} to {whole(sizes.most)} trained" if sizes.least is not None else ""
    return ", ".join(values) + trains


def _capabilities(card: MethodCard) -> list[RenderableType]:
    if not card.capabilities:
        return [Text("Nobody has tried.")]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in card.capabilities:
        table.add_row(
            Text(*_MARKS[one.holds]), Text(one.name), Text(_detail(one), style="" if one.holds is False else "dim")
        )
    tried = listed([f"{name} {version}" for name, version in card.libraries.items()])
    return [table, _note(f"Found by trying on tiny models with {tried}.")]


def _detail(one: Capability) -> str:
    return CAPABILITIES.get(one.name, "") if one.holds else line(one.detail)
