"""Suite files and overrides: what is typed last wins, and a key that is not known or out of place is an error."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from peftbench import registry
from peftbench.errors import InvalidSpec, UnknownName
from peftbench.spec import PscpSpec, Suite
from peftbench.strict_yaml import parse_scalar, parse_yaml, read_yaml
from peftbench.suites._bundle import read_bundle, under_bundle
from peftbench.suites._entry import SECTIONS, full_name, plain_entry, plain_section

_FAMILIES = ("tasks", "models", "methods")
_LISTS = (*_FAMILIES, "seeds")


def suite_names() -> list[str]:
    """The suites inside the package."""
    return sorted(
        item.name.removesuffix(".yaml") for item in files(__package__).iterdir() if item.name.endswith(".yaml")
    )


def read_suite(name: str, overrides: Iterable[str] = ()) -> Suite:
    """Read a suite by file path or by the name of one that ships, and apply `a.b=c` overrides.

    Raises:
        UnknownName: there is no such suite, or a key is unknown.
        InvalidSpec: the file is not YAML, holds a key twice, or a value of the wrong kind.
    """
    path = Path(name)
    there = os.path.isfile(path)  # noqa: PTH113 - answers False for a name that is too long to be a path
    if there or path.suffix in {".yaml", ".yml"}:
        if not there:
            raise InvalidSpec(
                f"There is no suite file {name}.", "Give the path of a YAML file, or see: peftbench list suites"
            )
        data = read_yaml(path)
        if data.keys() & {"target", "rows_of"} and not data.keys() & set(_FAMILIES):
            raise InvalidSpec(f"{path} is a task, not a suite.", f"Write: --tasks {path}")
        data.setdefault("name", path.stem)
        for family in ("tasks", "models", "methods"):
            if family in data:
                data[family] = _all_beside(path.parent, data[family])
    elif name in suite_names():
        data = parse_yaml((files(__package__) / f"{name}.yaml").read_text(encoding="utf-8"), name)
        data.setdefault("name", name)
    else:
        raise UnknownName("suite", name, suite_names())
    return build_suite(data, overrides, where=name)


def build_suite(data: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "the command line") -> Suite:
    """A suite from plain data and `a.b=c` overrides; one task, model, method or seed need not be a list."""
    merged = {
        key: [item] if key in _LISTS and isinstance(item, str | int | Mapping) else item for key, item in data.items()
    }
    for key, value in merged.items():
        _refuse_misplaced(key, value, f"{key}: {value}")
    typed = list(overrides)
    # What is multiplied first, then what the bundle adds to it: whatever else is typed is said of all that.
    first = [override for override in typed if override.partition("=")[0] in {"bundle", *_LISTS}]
    for override in first:
        _apply(merged, override)
    for family in _FAMILIES:
        if isinstance(merged.get(family), list):
            merged[family] = [_with_own(family, plain_entry(entry, where)) for entry in merged[family]]
    if merged.get("bundle") is not None:
        merged = under_bundle(merged, read_bundle(str(merged["bundle"])))
    for override in typed:
        if override not in first:
            _apply(merged, override)
    return Suite.parse(merged, where)


def read_constants(overrides: Iterable[str]) -> PscpSpec:
    """The constants of PSCP from `pscp.KEY=value` alone, as a report takes them.

    Raises:
        UnknownName: PSCP has no such key.
        InvalidSpec: an override is of something else, or its value is of the wrong kind.
    """
    data: dict[str, Any] = {}
    for override in overrides:
        if not override.startswith("pscp."):
            raise InvalidSpec(
                f"A report has no setting {override!r}; it takes the constants of PSCP.",
                "Write for example: pscp.beta_memory=2. The store is named with --store.",
            )
        _apply(data, override)
    return PscpSpec.parse(data.get("pscp", {}), "the command line, pscp")


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InvalidSpec(
            f"{override!r} is not an override.", "Write it as key=value, for example train.learning_rate=1e-4"
        )
    if key in _LISTS and not text.startswith("["):
        if "{" in text:
            raise InvalidSpec(f"{text!r} has settings, and is no list.", f"Write it as one: '[{text}]'")
        items = [item.strip() for item in text.split(",") if item.strip()]
        data[key] = [parse_scalar(item) for item in items] if key == "seeds" else _selected(items, data.get(key) or ())
        return
    section, _, name = key.partition(".")
    value = parse_scalar(text)
    if section not in SECTIONS and name:
        raise UnknownName("section", section, SECTIONS, f"the override {override!r}")
    if name:
        _set(data, section, name, value)
    elif section in SECTIONS and isinstance(value, Mapping):
        for one, item in plain_section(section, value, override).items():
            _set(data, section, one, item)
    else:
        _refuse_misplaced(key, text, override)
        data[key] = value


def _set(data: dict[str, Any], section: str, name: str, value: Any) -> None:
    """Set what all runs have in common, and take it from the entries that say otherwise: what is typed last wins."""
    full = full_name(section, name)
    written = data.get(section)
    if written is None or isinstance(written, Mapping):
        kept = {old: item for old, item in (written or {}).items() if full_name(section, str(old)) != full}
        data[section] = {**kept, full: value}
    for family in _FAMILIES:
        data[family] = [_without(entry, f"{section}.{full}") for entry in data.get(family) or ()]


def _all_beside(folder: Path, entries: Any) -> Any:
    return [_beside(folder, entry) for entry in entries] if isinstance(entries, list) else _beside(folder, entries)


def _beside(folder: Path, entry: Any) -> Any:
    """An entry with the path of the file or folder it names, when that lies where the suite file lies."""
    if isinstance(entry, Mapping) and isinstance(entry.get("use"), str):
        return {**entry, "use": _beside(folder, entry["use"])}
    written = (".py", ".json", *registry.YAML)
    if isinstance(entry, str) and (entry.endswith(written) or entry.startswith(("./", "../"))):
        found = os.path.relpath(folder / entry)
        # A folder keeps a slash, which says that it is one.
        slash = os.curdir + os.sep if (folder / entry).is_dir() and os.sep not in found else ""
        return slash + found if (folder / entry).exists() else entry
    return entry


def _with_own(family: str, entry: Any) -> Any:
    """A method's entry with what its folder says of training, where the entry does not."""
    use = entry.get("use") if isinstance(entry, Mapping) else entry
    own = registry.folder_options("methods", use) if family == "methods" and isinstance(use, str) else {}
    return {"use": use, **own, **(entry if isinstance(entry, Mapping) else {})} if own else entry


def _selected(names: Iterable[str], entries: Iterable[Any]) -> list[Any]:
    """Members by name: with the settings the suite has for them, where it names them too."""
    own = [(entry.get("use") if isinstance(entry, Mapping) else entry, entry) for entry in entries]
    result: list[Any] = []
    for name in names:
        wanted = registry.canonical(name)
        result += [entry for use, entry in own if registry.canonical(str(use)) == wanted] or [name]
    return result


def _refuse_misplaced(key: str, value: Any, written: str) -> None:
    """A setting that exists, written where it does not belong, is told its place."""
    if key in Suite.model_fields:
        return
    for section, spec in SECTIONS.items():
        if key in {*spec.model_fields, *spec.aliases}:
            raise InvalidSpec(f"The suite has no setting {key!r}.", f"Write: {section}.{written}")
    # Several have it, as a rule; lora is the one that most people mean.
    for method in sorted(registry.shipped("methods"), key=lambda name: name != "lora"):
        if key in registry.load("methods", method).value.__dataclass_fields__:
            values = value.split(",") if isinstance(value, str) else [value]
            entries = ", ".join(f"{{use: {method}, {key}: {one}}}" for one in values)
            raise InvalidSpec(f"The suite has no setting {key!r}; a method has.", f"Write: 'methods=[{entries}]'")


def _without(entry: Any, key: str) -> Any:
    return {name: value for name, value in entry.items() if name != key} if isinstance(entry, Mapping) else entry
