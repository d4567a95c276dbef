"""A variant is a method with settings that have a name of their own: `olora` is `lora` with another start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peftbench import registry
from peftbench.errors import UnknownName, UsageError
from peftbench.methods._method import Variant
from peftbench.registry import Member, canonical


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


def variants() -> Iterator[tuple[Member, str, Variant]]:
    """Every variant with its method and name, in the order of names; those of the shipped methods."""
    members = [registry.load("methods", name) for name in registry.shipped("methods")]
    found = [(member, name, variant) for member in members for name, variant in member.value.variants.items()]
    yield from sorted(found, key=lambda row: row[1])
