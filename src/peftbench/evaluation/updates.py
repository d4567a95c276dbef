"""How large the updates of an adapter are on what it was asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from peftbench.evaluation.predict import Decoding
from peftbench.methods._attach import Adapter
from peftbench.methods._magnitudes import update_magnitudes
from peftbench.models._batch import pad
from peftbench.record import SiteUpdates

# More prompts change the picture little, and the passes take time.
_PROMPTS = 64


def updates_on(adapter: Adapter, prompts: Sequence[Sequence[int]], how: Decoding) -> list[SiteUpdates]:
    """The sizes of updates at every site, over the tokens of the first 64 prompts.

    Raises:
        MethodProblem: the method has no sites.
    """
    starts = range(0, min(len(prompts), _PROMPTS), how.batch)
    batches = (pad(prompts[start : min(start + how.batch, _PROMPTS)], how.device).inputs() for start in starts)
    with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
        return update_magnitudes(adapter, batches)
