"""How large the updates of an adapter are, token by token, beside what they are added to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from peftbench.methods._attach import Adapter
from peftbench.methods._gate import Gated
from peftbench.methods._sites import Watch, real_tokens, relative_size
from peftbench.record import SiteUpdates

# The shares of tokens below the quantiles that are told.
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@torch.inference_mode()
def update_magnitudes(adapter: Adapter, batches: Iterable[Mapping[str, torch.Tensor]]) -> list[SiteUpdates]:
    """The distribution of `||adapted - base|| / ||base||` at every site, over the tokens of all batches.

    A batch is what a forward call takes, with its `attention_mask`; padding does not count. Where updates are gated,
    sizes are those before the gate, and the share of tokens that pass it is told as well.

    Raises:
        MethodProblem: see `Method.without_sites`.
    """
    gated = adapter.module if isinstance(adapter.module, Gated) else None
    watch = gated.watch if gated else Watch(adapter.method.sites(adapter.module))
    found: list[list[torch.Tensor]] = [[] for _ in watch.names]
    mask: torch.Tensor | None = None

    def see(place: int, base: torch.Tensor, adapted: torch.Tensor) -> None:
        size = relative_size(base, adapted)
        found[place].append(size[real_tokens(mask, size)].cpu())

    adapter.module.eval()
    watch.seers.insert(0, see)
    try:
        for batch in batches:
            mask = batch.get("attention_mask")
            adapter.module(**batch, use_cache=False, logits_to_keep=1)
    finally:
        watch.seers.remove(see)
        if gated is None:
            watch.close()
    thresholds = gated.thresholds.tolist() if gated else [None] * len(found)
    return [_told(*row) for row in zip(watch.names, found, thresholds, strict=True)]


def _told(site: str, found: list[torch.Tensor], threshold: float | None) -> SiteUpdates:
    sizes = torch.cat(found).double()
    return SiteUpdates(
        site=site,
        tokens=len(sizes),
        mean=float(sizes.mean()),
        quantiles={str(share): float(torch.quantile(sizes, share)) for share in _SHARES},
        threshold=threshold,
        density=None if threshold is None else float((sizes >= threshold).double().mean()),
    )
