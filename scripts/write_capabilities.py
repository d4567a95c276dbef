"""Tries what every shipped method and variant can do, and writes it into the package: some minutes.

What packs weights has to be at hand, or nothing could be said of packed bases: `make packed` lays it aside.
"""

from __future__ import annotations

import sys
from pathlib import Path

import peftbench.methods
from peftbench import registry
from peftbench.methods._probed import FILE, Probed, ProbedMethods, libraries, probed_methods
from peftbench.methods._variants import named, names
from peftbench.testing import quantised, try_capabilities

PLACE = Path(peftbench.methods.__file__).with_name(FILE)


def probed(name: str) -> Probed:
    """What one method or variant can do."""
    return Probed(version=named(name).member.value.version, capabilities=try_capabilities(name))


def main(wanted: list[str]) -> None:
    """Write all of them, or those that are named into what there is."""
    if not quantised.installed():
        sys.exit(f"{quantised.PACKAGE} is not here. Run `make packed`, then this with PYTHONPATH=build/packed.")
    shipped = set(registry.shipped("methods"))
    every = [name for name in names() if named(name).member.name in shipped and named(name).member.plugin is None]
    found = dict(probed_methods().methods) if wanted else {}
    for name in wanted or every:
        found[name] = probed(name)
        said = ", ".join(one.name for one in found[name].capabilities if one.holds is False)
        print(f"{name}: cannot: {said or 'nothing'}", flush=True)
    kept = {name: found[name] for name in every if name in found}
    text = ProbedMethods(libraries=libraries(), methods=kept).model_dump_json(indent=1)
    PLACE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
