"""`training_params.json` of peft's method comparison: how an adapter was trained there, in the terms of a suite.

What means the same becomes a setting of the entry, what cannot be a method's to say is named (`left_aside`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.errors import InvalidSpec
from peftbench.methods._adapter_files import read_json

FILE = "training_params.json"
_SAME: Mapping[str, str] = {
    "max_steps": "max_steps",
    "batch_size": "per_device_train_batch_size",
    "eval_steps": "eval_steps",
    "max_seq_length": "max_length",
    "grad_norm_clip": "max_grad_norm",
}
# Values that ask for nothing that is not done anyhow.
_DONE: Mapping[str, tuple[Any, ...]] = {
    "optimizer_type": ("AdamW",),
    "compile": (False,),
    "use_gc": (False,),
    "use_amp": (False,),
    "autocast_adapter_dtype": (True,),
    "attn_implementation": (None,),
    "init_kv_cache_prefix": (None,),
    "lr_scheduler": ("cosine", None),
}
# What torch's AdamW takes where the file names none.
_WEIGHT_DECAY = 0.01
# The share of the steps in which the rate rises there, whatever the file says.
_WARMUP = 0.1


@dataclass(frozen=True)
class TrainingParams:
    """Settings of an entry, as `train.learning_rate`, and the keys of the file that they leave out."""

    settings: dict[str, Any]
    left_aside: tuple[str, ...]


def read(path: Path) -> TrainingParams:
    """The file, translated; keys that are absent say nothing.

    Raises:
        InvalidSpec: `optimizer_kwargs` is no mapping.
        MethodProblem: the file cannot be read.
    """
    said = read_json(path)
    optimizer = said.get("optimizer_kwargs", {})
    if not isinstance(optimizer, dict):
        raise InvalidSpec(f"{path}: optimizer_kwargs has to be a mapping.", 'Write: "optimizer_kwargs": {"lr": 1e-4}')
    train: dict[str, Any] = {ours: said[theirs] for theirs, ours in _SAME.items() if said.get(theirs) is not None}
    if train.get("max_grad_norm") == 0:
        # There it skips the clipping, and a norm cannot be so large here.
        train["max_grad_norm"] = 1e9
    if "max_steps" in train:
        # There steps alone are counted, and the last one counts: an epoch has at least one.
        train |= {"num_train_epochs": float(train["max_steps"]), "checkpoint": "last"}
    if "lr" in optimizer:
        train["learning_rate"] = optimizer["lr"]
    if optimizer:
        train["weight_decay"] = optimizer.get("weight_decay", _WEIGHT_DECAY)
    if "lr_scheduler" in said:
        kind, warmup = ("constant", 0.0) if said["lr_scheduler"] is None else ("cosine", _WARMUP)
        train |= {"lr_scheduler_type": kind, "warmup_ratio": warmup}
    known = {*_SAME, *_DONE, "optimizer_kwargs"}
    aside = [
        *(key for key in said if key not in known or (key in _DONE and said[key] not in _DONE[key])),
        *(f"optimizer_kwargs.{key}" for key in optimizer if key not in {"lr", "weight_decay"}),
    ]
    return TrainingParams({f"train.{key}": value for key, value in train.items()}, tuple(sorted(aside)))
