"""What all tests share: one thread, the real data where it lies beside the project, and golden files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from peftbench.testing.fresh import FreshProcess

# Set before torch is imported anywhere, and inherited by the processes that tests start: on tiny models a second
# thread only waits for the first.
os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files that are missing or outdated")
    parser.addoption("--slow", action="store_true", help="the tests marked slow, and no others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = bool(config.getoption("--slow"))
    others = [item for item in items if (item.get_closest_marker("slow") is not None) != wanted]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]
    absent = {
        "shared": None if SHARED.is_dir() else "the shared data and models are not here",
        "packed": None if importlib.util.find_spec("bitsandbytes") else "bitsandbytes is not installed",
    }
    for item in items:
        for marker, reason in absent.items():
            if reason is not None and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and models."""
    return SHARED


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcess]:
    """One server of fresh processes for all tests."""
    from peftbench.testing.fresh import FreshProcess

    with FreshProcess() as process:
        yield process
