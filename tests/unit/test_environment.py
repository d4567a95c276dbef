"""What is noted about the machine and its libraries."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from peftbench import environment
from peftbench._version import __version__
from peftbench.environment import describe


def test_this_environment() -> None:
    found = describe("cpu", 3)
    assert (found.peftbench, found.python, found.device, found.threads) == (
        __version__,
        platform.python_version(),
        "cpu",
        3,
    )
    assert found.packages["numpy"]
    assert found.processor
    assert all(found.packages.values())


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_PACKAGES", ("numpy", "nothing-of-that-name"))
    assert set(describe("cpu", 1).packages) == {"numpy"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("flags\t: a\nmodel name\t: A Fast One\nmodel name\t: B\n", "A Fast One"),
        ("flags: a\n", "from platform"),
        (None, "from platform"),
    ],
)
def test_the_processor(text: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(environment, "Path", lambda path: tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "from platform")
    assert describe("cpu", 1).processor == name
