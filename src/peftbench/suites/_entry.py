"""One spelling for each setting of a suite: `train: {lr: 1}` in an entry is `train.learning_rate: 1`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peftbench.errors import InvalidSpec
from peftbench.spec import EvalSpec, PscpSpec, TrainSpec, Value

SECTIONS: Mapping[str, type[Value]] = {"train": TrainSpec, "evaluate": EvalSpec, "pscp": PscpSpec}
# What an entry may say of its own runs.
_OF_ENTRIES = ("train", "evaluate")


def full_name(section: str, name: str) -> str:
    """The name of a setting, whatever alias it goes by."""
    return SECTIONS[section].aliases.get(name, name)


def plain_section(section: str, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A section with full names.

    Raises:
        InvalidSpec: a setting stands twice.
    """
    return _once(((full_name(section, str(name)), value) for name, value in settings.items()), f"{where}, {section}")


def plain_entry(entry: Any, where: str) -> Any:
    """An entry with dotted full names; one that is a name alone stays a name.

    Raises:
        InvalidSpec: a setting stands twice.
    """
    if not isinstance(entry, Mapping):
        return entry
    return _once(_dotted(entry), f"{where}, {entry.get('use')}")


def _dotted(entry: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in entry.items():
        section, _, name = str(key).partition(".")
        if key == "options" and isinstance(value, Mapping):
            # As a suite is printed.
            yield from _dotted(value)
        elif section in _OF_ENTRIES and (name or isinstance(value, Mapping)):
            for one, item in {name: value}.items() if name else value.items():
                yield f"{section}.{full_name(section, str(one))}", item
        else:
            yield str(key), value


def _once(settings: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings:
        if name in found:
            raise InvalidSpec(f"{where} sets {name!r} twice.", "Keep one of them.")
        found[name] = value
    return found
