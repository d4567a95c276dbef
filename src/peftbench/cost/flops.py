"""FLOPs of one forward pass, counted from shapes: nothing is computed, and no memory is taken.

Every matrix product counts 2 FLOPs a multiply-add; element-wise work (norms, activations, the scalings of IA3) counts
nothing. Attention counts in full, tokens x (tokens + prefix) for scores and values each, as a kernel that does not skip
the masked half would do it. In a decoder of L layers with attention h wide and W weights in its linear layers (the
vocabulary's head among them), n tokens behind a cached prefix of p cost `2 n W + 4 L n (n + p) h`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from peftbench.methods._attach import Structure
from peftbench.models._batch import pad

# The caller's tokens of a count, as in PEFT-Bench (arXiv 2511.21285).
USUAL_LENGTH = 512

_Shape = Sequence[int]


def forward_length(context: int, virtual_tokens: int) -> int:
    """Tokens of the caller's to count with: 512, or what a smaller context leaves beside a method's virtual tokens.

    A `context` of 0 is one that the model does not state.
    """
    return min(USUAL_LENGTH, context - virtual_tokens) if context else USUAL_LENGTH


def forward_flops(module: nn.Module, tokens: int, device: torch.device) -> int:
    """FLOPs of one pass over one sequence of `tokens` of the caller's, with logits at every position, without gradient.

    The module is called as training calls it. It comes back as it was, modes of training and what it caches in its
    attributes included, and no stream of random numbers moves.

    Raises:
        Exception: whatever the module raises when it is called.
    """
    structure = Structure(module)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        try:
            return _counted(module, tokens, device, FakeTensorMode(allow_non_fake_inputs=True))
        except RuntimeError:
            # Shapes do not answer what looks at values (a rotary embedding that depends on the length): it is done.
            structure.restore()
            return _counted(module, tokens, device, contextlib.nullcontext())
        finally:
            structure.restore()


def _counted(module: nn.Module, tokens: int, device: torch.device, mode: contextlib.AbstractContextManager[Any]) -> int:
    module.eval()
    counter = FlopCounterMode(display=False, custom_mapping=_FUSED | _packed())
    # Fused attention has a kernel for each device, and the counter does not know them all: plain products it does.
    with mode, sdpa_kernel(SDPBackend.MATH), counter:
        module(**pad([[0] * tokens], device).inputs(), use_cache=False)
    return int(counter.get_total_flops())


def _recurrent(inputs: _Shape, weights: Sequence[_Shape]) -> int:
    """A recurrent layer uses each of its matrices once a token."""
    return 2 * math.prod(inputs[:2]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


def _mkldnn_rnn(inputs: _Shape, *weights: Any, **rest: Any) -> int:
    """One layer and direction: the matrices of input and of state come first. Inputs [tokens, rows, width]."""
    del rest
    return _recurrent(inputs, weights[:2])


def _cudnn_rnn(inputs: _Shape, weights: Sequence[_Shape], *settings: Any, **rest: Any) -> int:
    """All layers and directions. Inputs [tokens, rows, width] or [rows, tokens, width]."""
    del settings, rest
    return _recurrent(inputs, weights)


def _packed() -> dict[Any, Callable[..., int]]:
    """A product with weights in 4 bits is one as with any others; they are unpacked element by element."""
    kernel = getattr(torch.ops.bitsandbytes, "gemm_4bit", None)
    return {} if kernel is None else {kernel: _gemm_4bit}


def _gemm_4bit(inputs: _Shape, packed: _Shape, shape: _Shape, *rest: Any, **more: Any) -> int:
    """Weights of `shape` [outputs, inputs]. Inputs [..., inputs]."""
    del packed, rest, more
    return 2 * math.prod(inputs) * shape[0]


# Recurrent kernels (p-tuning runs an LSTM) that the counter of torch leaves out.
_FUSED = {torch.ops.aten.mkldnn_rnn_layer: _mkldnn_rnn, torch.ops.aten._cudnn_rnn: _cudnn_rnn}  # noqa: SLF001 - its name
