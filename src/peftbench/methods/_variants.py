"""A variant is a method with settings that have a name of their own: `olora` is `lora` with another start."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peftbench import registry
from peftbench.errors import UnknownName, UsageError
from peftbench.methods._method import Variant
from peftbench.registry import Member, canonical
from peftbench.spec import MethodRef, Settings


@dataclass(frozen=True)
class Named:
    """What a name stands for: a method, and the settings that the name implies."""

    member: Member
    settings: Mapping[str, Any]


def named(name: str) -> Named:
    """The method of a name, a path or a variant's name.

    Raises:
        UnknownName: there is none; the nearest name is offered, be it a variant's.
        UsageError: a file cannot be imported, or holds no method.
    """
    try:
        return Named(registry.load("methods", name), {})
    except UnknownName:
        if registry.is_folder("methods", name):
            # What is in it is not known, not the folder.
            raise
        every = {variant: (member, settings) for member, variant, settings in variants()}
        if canonical(name) in every:
            member, variant = every[canonical(name)]
            return Named(member, variant.settings)
        if name and registry.is_folder("methods", f"./{name}"):
            raise UsageError(f"{name} is a folder, and no method is called so.", f"Write its path: ./{name}") from None
        raise UnknownName("method", name, names()) from None


def names() -> list[str]:
    """All that can be named without a path: methods and their variants, sorted."""
    return sorted([*registry.names("methods"), *(name for _, name, _ in variants())])


def called(method: MethodRef) -> str:
    """What a method is called whatever its other settings: `olora`, `ts_peft over lora`."""
    name, _ = recognised(method)
    return method.label if name == method.name else name


def recognised(method: MethodRef) -> tuple[str, Settings]:
    """What a method with these settings is called, and the settings without those that the name implies.

    They are the defaults in the place of those. Of several variants the one that implies most counts, then the first
    by name. A file of one's own is none of them, and what is none has the name of its method.
    """
    known = _implied(method.name) if method.plugin is None else {}
    fitting = [name for name, settings in known.items() if settings.items() <= method.settings.items()]
    if not fitting:
        return method.name, method.settings
    name = max(fitting, key=lambda each: len(known[each]))
    defaults = registry.load("methods", method.name).value().settings()
    return name, {**method.settings, **{key: defaults[key] for key in known[name]}}


@functools.cache
def _implied(method: str) -> Mapping[str, Settings]:
    """The settings of the variants of a shipped method, in the order of their names."""
    if method not in registry.shipped("methods"):
        return {}
    return {name: one.settings for name, one in sorted(registry.load("methods", method).value.variants.items())}


def variants() -> Iterator[tuple[Member, str, Variant]]:
    """Every variant with its method and name, in the order of names; those of the shipped methods."""
    members = [registry.load("methods", name) for name in registry.shipped("methods")]
    found = [(member, name, variant) for member in members for name, variant in member.value.variants.items()]
    yield from sorted(found, key=lambda row: row[1])
