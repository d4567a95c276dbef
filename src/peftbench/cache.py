"""Where things lie that were made once and can be made again: they may be removed at any time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """The folder of one kind of thing, below `XDG_CACHE_HOME` where that is set; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else _home() / ".cache") / "peftbench" / kind


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # In a container the user may have no entry anywhere.
        return Path(tempfile.gettempdir())
