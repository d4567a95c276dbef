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
from peftbench.spec import EvalSpec, PscpSpec, TrainSpec, Value
from peftbench.suites._yaml import parse_yaml

_SECTIONS: Mapping[str, type[Value]] = {"train": TrainSpec, "evaluate": EvalSpec, "pscp": PscpSpec}


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
    """The data of a suite with what a bundle adds to it."""
    merged = {key: value for key, value in bundle.items() if key != "description"} | dict(data)
    for section, spec in _SECTIONS.items():
        own = data.get(section) or {}
        merged[section] = {**bundle[section], **_full_names(own, spec)} if isinstance(own, Mapping) else own
    usual = {entry["use"]: _dotted(entry) for entry in map(_entry, bundle["methods"])}
    merged["methods"] = [_with(usual, entry) for entry in data.get("methods") or bundle["methods"]]
    return merged


def _with(usual: Mapping[str, Mapping[str, Any]], entry: Any) -> Any:
    """A method with the settings the bundle has for it, where the entry does not say otherwise."""
    known = usual.get(registry.canonical(str(_entry(entry).get("use"))))
    return {**known, **_dotted(_entry(entry)), "use": known["use"]} if known else entry


def _entry(entry: Any) -> dict[str, Any]:
    return dict(entry) if isinstance(entry, Mapping) else {"use": entry}


def _dotted(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with one spelling for each setting: `train: {lr: 1}` is `train.learning_rate: 1`."""
    result: dict[str, Any] = {}
    for key, value in entry.items():
        section, _, name = key.partition(".")
        spec = _SECTIONS.get(section)
        if spec and (name or isinstance(value, Mapping)):
            inner = _full_names({name: value} if name else value, spec)
            result.update({f"{section}.{one}": item for one, item in inner.items()})
        else:
            result[key] = value
    return result


def _full_names(settings: Mapping[str, Any], spec: type[Value]) -> dict[str, Any]:
    return {spec.aliases.get(key, key): value for key, value in settings.items()}
