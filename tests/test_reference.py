"""Generated pages are as the program would write them now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "script"), [("settings", "write_reference"), ("methods", "write_methods")])
def test_page_is_current(name: str, script: str) -> None:
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page: str = module.page()
    kept = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert kept == page, f"run scripts/{script}.py"
