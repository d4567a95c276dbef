"""One seed, many named streams.

Data order, adapter initialisation, dropout, the validation share and the examples of a prompt each draw from their own
stream, so that a method that initialises more numbers does not see its batches in another order: for a given seed every
method sees the same examples in the same batches, and comparisons are paired by construction.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal

Stream = Literal["split", "order", "init", "dropout", "sample", "shots"]


def stream_seed(seed: int, stream: Stream) -> int:
    """A 63-bit seed for one named stream of a run's seed."""
    digest = hashlib.sha256(f"{stream}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(seed: int, stream: Stream) -> random.Random:
    """A generator of its own for one named stream; shares no state with any other."""
    return random.Random(stream_seed(seed, stream))  # noqa: S311 - reproducible sampling, nothing secret
