"""Bundles: settings that were published together, under one name.

A bundle holds settings of methods, training, evaluation, the reading of metrics, and the constants of PSCP. A suite
that names one (`bundle: published_v1`) starts from them; what it says itself wins, key by key. Methods that it names
have the settings they have in the bundle; without any `methods` it has all of the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from peftbench import registry
from peftbench.errors import UnknownName
from peftbench.strict_yaml import parse_yaml
from peftbench.suites._entry import SECTIONS, plain_entry, plain_section


def bundle_names() -> list[str]:
    """The bundles inside the package."""
    return sorted(item.name.removesuffix(".yaml") for item in (files(__package__) / "bundles").iterdir())


def read_bundle(name: str) -> dict[str, Any]:
    """A bundle as plain data.

    Raises:
        UnknownName: there is no such bundle.
    """
    if name not in bundle_names():
        raise UnknownName("bundle", name, bundle_names())
    text = (files(__package__) / "bundles" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, f"bundle {name}")


def under_bundle(data: Mapping[str, Any], bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a suite, its entries plain, with what a bundle adds to it."""
    merged = {key: value for key, value in bundle.items() if key != "description"} | dict(data)
    for section in SECTIONS:
        own = data.get(section) or {}
        if isinstance(own, Mapping):
            merged[section] = {**bundle[section], **plain_section(section, own, "the suite")}
    usual = {entry["use"]: entry for entry in map(_entry, bundle["methods"])}
    own_methods = data.get("methods") or bundle["methods"]
    merged["methods"] = [_with(usual, entry) for entry in own_methods] if isinstance(own_methods, list) else own_methods
    return merged


def _with(usual: Mapping[str, Mapping[str, Any]], entry: Any) -> Any:
    """A method with the settings the bundle has for it, where the entry does not say otherwise."""
    own = _entry(entry)
    known = usual.get(registry.canonical(str(own.get("use"))))
    return {**known, **own, "use": known["use"]} if known else entry


def _entry(entry: Any) -> dict[str, Any]:
    plain = plain_entry(entry, "methods")
    return plain if isinstance(plain, dict) else {"use": plain}
