"""Label scoring: which of a few answers a model finds most likely, whether or not it would write any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from peftbench.evaluation.predict import FED, Decoding, batches
from peftbench.models._chat import Encoded
from peftbench.models._layout import PADDED, answer_logits
from peftbench.models._prefilled import prefill

Labels = Sequence[Sequence[int]]


@torch.inference_mode()
def scores(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    labels: Labels,
    how: Decoding,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """[prompts, labels], float64: the log-likelihood of each label behind each prompt, the token that ends it included.

    No length is divided by: what is compared are probabilities of whole answers.
    """
    module.eval()
    # A label in the place of what would be written.
    how = replace(how, max_new_tokens=max(map(len, labels)))
    found = torch.zeros(len(prompts), len(labels), dtype=torch.float64)
    done = 0
    for places in batches(prompts, how):
        some = [prompts[place] for place in places]
        with torch.autocast(how.device.type, dtype=torch.bfloat16, enabled=how.bf16):
            together = how.layout.takes(some, how.behind)
            found[places] = (_behind if together else _as_a_whole)(module, some, labels, how).cpu()
        done += len(places)
        progress(done, len(prompts))
    return found


def _behind(module: nn.Module, prompts: Sequence[Sequence[int]], labels: Labels, how: Decoding) -> torch.Tensor:
    """[prompts, labels]: the prompts are read once, and the labels put behind them one after the other."""
    read, first = prefill(module, prompts, how.device, how.layout, behind=how.max_new_tokens)
    found, together = [], max(1, FED // len(prompts))
    for label in labels:
        ids = torch.tensor(label, device=how.device).expand(len(prompts), -1)
        likely = _logarithms(first, ids[:, 0])
        for start in range(0, len(label) - 1, together):
            fed = ids[:, start : min(start + together, len(label) - 1)]
            likely = likely + _logarithms(read.feed(fed), ids[:, start + 1 :][:, : fed.shape[1]]).sum(dim=1)
        read.take_back([len(label) - 1] * len(prompts))
        found.append(likely)
    return torch.stack(found, dim=1)


def _as_a_whole(module: nn.Module, prompts: Sequence[Sequence[int]], labels: Labels, how: Decoding) -> torch.Tensor:
    """[prompts, labels]: every prompt is read with every label, in padded rows."""
    found = []
    for label in labels:
        examples = [Encoded(tuple(prompt), tuple(label)) for prompt in prompts]
        logits, ids = answer_logits(module, examples, how.device, PADDED)
        found.append(_logarithms(logits, ids).view(len(prompts), len(label)).sum(dim=1))
    return torch.stack(found, dim=1)


def _logarithms(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[...]: how likely tokens are by logits [..., vocabulary]; in 64 bits, of which there are no logits."""
    taken = logits.gather(-1, ids[..., None])[..., 0]
    return taken.double() - logits.float().logsumexp(dim=-1).double()
