"""The card of a method: what it is, where it comes from, its settings, what it trains of a model, what it can do."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import Field, JsonValue

from peftbench.errors import MissingExtra
from peftbench.methods._method import FAMILIES, Facts, Method, build
from peftbench.methods._paper import Paper, paper
from peftbench.methods._probed import Capability, Probed, probed_methods
from peftbench.methods._variants import named
from peftbench.models._facts import ModelFacts, find
from peftbench.models._quantization import fitted, lacking
from peftbench.registry import Member, canonical, own_code
from peftbench.spec import ModelRef, Quantization, Settings, Value

# A clause of a docstring ends with a point or semicolon that does not stand in brackets or between backticks.
_CLAUSE = re.compile(r"(?:`[^`]*`|\([^()]*\)|[^.;]|[.;](?!\s|$))+")
# So many sizes are shown one by one.
_FEW = 8


class Hyperparameter(Value):
    """One setting: its default, what else it may be where those are words, and the clause of the docstring about it."""

    name: str
    default: JsonValue
    choices: tuple[str, ...]
    meaning: str


class VariantCard(Value):
    """Settings under a name of their own."""

    name: str
    about: str
    settings: Settings


class Sizes(Value):
    """What the hyperparameter that says how much is trained may be on a model, from the least to the most.

    `values` are all of the `count`, or the first two and the last where they are many.
    """

    values: tuple[JsonValue, ...]
    count: int
    least: int | None = Field(description="parameters that the first value trains")
    most: int | None = Field(description="parameters that the last value trains")


class Earlier(Value):
    """What was trained before, and on what, as far as that is known."""

    parameters: int
    bytes: int | None
    model: str | None
    revision: str | None


class OnModel(Value):
    """What a method is on a model; `unfit` says why it cannot be used there, and then the rest is None.

    Where its base is packed, `quantization` says how, and `lacking` why that cannot be done on this machine.
    """

    model: str
    parameters: int
    unfit: str | None
    caution: str | None = Field(default=None, description="what somebody should know who uses it there")
    quantization: Quantization | None = None
    lacking: str | None = None
    trained: int | None = Field(description="by formula; None where only attaching tells")
    attached: int | None = Field(default=None, description="found by attaching it to the loaded model")
    by_data: bool = Field(default=False, description="it depends on the training examples how much is trained")
    virtual_tokens: int = 0
    sizes: Sizes | None = None


class MethodCard(Value):
    """All that is said of a method. `capabilities` are empty where nobody has tried, `libraries` say with what."""

    name: str
    variant_of: str | None
    about: str
    what: str
    version: int
    family: str | None
    family_means: str
    paper: Paper | None
    reference: str | None
    trains: bool
    learning_rate: float
    size: str | None
    hyperparameters: tuple[Hyperparameter, ...]
    variants: tuple[VariantCard, ...]
    plugin: str | None
    earlier: Earlier | None = Field(default=None, description="of an adapter, which is evaluated as it is")
    on_model: OnModel | None = None
    capabilities: tuple[Capability, ...] = ()
    libraries: dict[str, str] = Field(default_factory=dict)


def method_card(
    method: str, model: str | None = None, data_root: str | None = None, *, attach: bool = False
) -> MethodCard:
    """The card of a method or variant, by name or file; `model` (embedded, a folder or a hub id) is what it is put on.

    With `attach` the model is loaded, and what is trained is counted; all else needs neither weights nor torch.

    Raises:
        UsageError: there is no such method or model, or the file holds no method.
    """
    found = named(method)
    member, cls = found.member, found.member.value
    one = build(member.name, cls, found.settings)
    variant = canonical(method) if found.settings else None
    about = cls.variants[variant].about if variant else member.about
    known = _probed(member, variant)
    return MethodCard(
        name=variant or member.name,
        variant_of=member.name if variant else None,
        about=about,
        what=_docstring(cls),
        version=cls.version,
        family=cls.family,
        family_means=FAMILIES.get(cls.family or "", ""),
        paper=paper(about) if variant else paper(sys.modules[cls.__module__].__doc__ or ""),
        reference=cls.reference,
        trains=cls.trains,
        learning_rate=cls.learning_rate,
        size=None if cls.kept else cls.size,
        hyperparameters=tuple(_hyperparameters(one)),
        variants=() if variant or cls.kept else tuple(_variants(cls)),
        plugin=member.plugin,
        earlier=_earlier(one),
        on_model=None if model is None else _asked(member, one, find(model, None, data_root), attach=attach),
        capabilities=known.capabilities if known else (),
        libraries=probed_methods().libraries if known else {},
    )


def _asked(member: Member, method: Method, facts: ModelFacts, *, attach: bool) -> OnModel:
    with own_code(member.file):
        return on_model(method, facts, attach=attach)


def on_model(method: Method, facts: ModelFacts, *, attach: bool = False) -> OnModel:
    """What a method is on a model, found out without its weights unless it is to be attached.

    Raises:
        MissingExtra: it is to be attached, and what that needs is not installed.
    """
    facts, misfit = fitted(method, None, facts)
    unfit = misfit or method.unfit(facts)
    if unfit:
        return OnModel(model=facts.name, parameters=facts.shapes.parameters, unfit=unfit, trained=None)
    kept = method.kept
    trained = kept.parameters or kept.numbers if kept else method.trainable_parameters(facts)
    by_data = trained is None and method.looks_first
    return OnModel(
        model=facts.name,
        parameters=facts.shapes.parameters,
        unfit=None,
        caution=method.caution(facts),
        quantization=facts.quantization,
        lacking=lacking(facts),
        trained=trained,
        attached=_attached(method, facts) if attach and not by_data else None,
        by_data=by_data,
        virtual_tokens=method.virtual_tokens,
        sizes=None if kept or method.size is None else _sizes(method, facts),
    )


def _attached(method: Method, facts: ModelFacts) -> int:
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "train") from None
    from peftbench.methods._attach import attached
    from peftbench.models._load import load

    ref = ModelRef(name=facts.name, revision=facts.revision, quantization=facts.quantization)
    with attached(method, load(ref, facts, torch.device("cpu"))) as adapter:
        return adapter.size.parameters or 0


def _earlier(method: Method) -> Earlier | None:
    if method.kept is None:
        return None
    from peftbench.methods._trained import Trained

    model, revision = method.trained_on if isinstance(method, Trained) else (None, None)
    numbers = method.kept.parameters or method.kept.numbers or 0
    return Earlier(parameters=numbers, bytes=method.kept.bytes, model=model, revision=revision)


def _probed(member: Member, variant: str | None) -> Probed | None:
    """What was found out, of the version there is; a file of one's own may have the name of a member."""
    known = None if member.plugin else probed_methods().methods.get(variant or member.name)
    return known if known and known.version == member.value.version else None


def _docstring(cls: type) -> str:
    """What a class says of itself, not of those it extends; a dataclass without a word of its own gets its fields."""
    text = vars(cls).get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else inspect.cleandoc(text)


def _variants(cls: type[Method]) -> Iterator[VariantCard]:
    for name, one in sorted(cls.variants.items()):
        yield VariantCard(name=name, about=one.about, settings=one.settings)


# ---- settings ------------------------------------------------------------------------------------------------------


def _hyperparameters(method: Method) -> Iterator[Hyperparameter]:
    hints = get_type_hints(type(method))
    # A word may stand for settings that are filled in when the method is built: the card has the word.
    words = {field.name: field.default for field in dataclasses.fields(method) if isinstance(field.default, str)}
    for name, value in method.settings().items():
        default = words.get(name, value) if isinstance(value, dict) else value
        yield Hyperparameter(
            name=name, default=default, choices=_choices(hints[name]), meaning=meaning(type(method), name)
        )


def _choices(hint: Any) -> tuple[str, ...]:
    """The words that a setting may be."""
    if get_origin(hint) is Literal:
        return tuple(choice for choice in get_args(hint) if isinstance(choice, str))
    return tuple(choice for inner in get_args(hint) for choice in _choices(inner))


def meaning(cls: type[Method], name: str) -> str:
    """The clause of the docstring of a class, or of one it extends, that says what a hyperparameter is, or nothing.

    One that says what it is comes before one that names it, and that before one that has it in a formula.
    """
    texts = [_docstring(one) for one in cls.__mro__ if issubclass(one, Method)]
    clauses = [" ".join(clause.split()) for text in texts for clause in _CLAUSE.findall(text)]
    for form in (rf"^`{name}` (?:is|are|says)\b", rf"`{name}`", rf"`[^`]*\b{name}\b[^`]*`"):
        for clause in clauses:
            if re.search(form, clause):
                return clause
    return ""


# ---- sizes ---------------------------------------------------------------------------------------------------------


def _sizes(method: Method, facts: Facts) -> Sizes | None:
    sizes = method.sizes(facts)
    if not sizes:
        return None
    shown = list(sizes) if len(sizes) <= _FEW else [*sizes[:2], sizes[-1]]
    each = [method.with_size(size) for size in shown]
    return Sizes(
        values=tuple(one.settings().get(method.size or "", size) for one, size in zip(each, shown, strict=True)),
        count=len(sizes),
        least=each[0].trainable_parameters(facts),
        most=each[-1].trainable_parameters(facts),
    )
