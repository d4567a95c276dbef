"""The public names: sorted, all there, and light to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import peftbench


def test_sorted_and_complete() -> None:
    names = [name for name in peftbench.__all__ if name != "__version__"]
    assert names == sorted(names, key=lambda name: (name[0].islower(), name))
    assert set(names) == set(peftbench._HOMES)
    assert dir(peftbench) == sorted(peftbench.__all__)


@pytest.mark.parametrize("name", peftbench.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(peftbench, name) is not None


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nowhere'"):
        _ = peftbench.nowhere


def test_importing_costs_nothing() -> None:
    heavy = "'torch', 'pydantic', 'typer', 'numpy'"
    code = f"import sys, peftbench; print([name for name in ({heavy}) if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
