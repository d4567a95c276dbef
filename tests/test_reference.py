"""Generated pages are as the program would write them now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_settings_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "scripts" / "write_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page: str = module.page()
    assert (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8") == page, (
        "run scripts/write_reference.py"
    )
