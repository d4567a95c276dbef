"""What is written of a trained adapter, and whether another process can use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached
from peftbench.testing.answers import EXACT, answers
from peftbench.testing.fresh import Job
from peftbench.testing.subject import Subject
from peftbench.testing.toy import furthest, reference_logits

MERGED = 1e-5
_SUFFIXES = {".safetensors", ".json", ".md", ".txt"}


def saves(subject: Subject) -> str | None:
    """The fault of an adapter folder that is empty or holds files that run code when they are read."""
    files = [path for path in _saved(subject).rglob("*") if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        return "`save` wrote no safetensors file."
    odd = [path.name for path in files if path.suffix not in _SUFFIXES]
    return f"`save` wrote {odd[0]!r}." if odd else None


def reloads(subject: Subject) -> str | None:
    """The fault of an adapter that answers differently in a process that only read its files."""
    output = subject.scratch / "logits.safetensors"
    fault = subject.fresh.do(_job(subject, output, "logits"))
    if fault:
        return f"In a fresh process: {fault}"
    lent = subject.trained().lent
    distance = furthest(reference_logits(lent.adapter.module, lent.base), load_file(output)["logits"])
    if distance <= EXACT:
        return None
    lost = _lost(subject)
    missing = f"; nothing that was saved is {lost!r}" if lost else ""
    return f"Loaded in a fresh process, the logits differ by {distance:.2g}{missing}."


def _lost(subject: Subject) -> str | None:
    """The name of a trained parameter whose values are in no saved file, under whatever name, if there is one."""
    saved = [value.flatten() for file in _saved(subject).glob("*.safetensors") for value in load_file(file).values()]
    for name, value in subject.trained().lent.adapter.state().items():
        own = value.flatten()
        if not any(one.shape == own.shape and torch.equal(one.to(own.dtype), own) for one in saved):
            return name
    return None


def stock(subject: Subject) -> str | None:
    """The fault of an adapter that the `peft` library, left to itself, reads differently."""
    output = subject.scratch / "answers.json"
    fault = subject.fresh.do(_job(subject, output, "answers"))
    if fault:
        return f"PeftModel.from_pretrained in a fresh process: {fault}"
    ours, theirs = answers(subject.trained().lent, batch=1), json.loads(output.read_text(encoding="utf-8"))
    differing = [place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    return f"PeftModel.from_pretrained answers prompt {differing[0]} differently." if differing else None


def merges(subject: Subject) -> str | None:
    """The fault of a merged model that answers differently, still holds the adapter, or spoils the base.

    A difference that is gone in double precision is rounding, which a trained update many times the weight amplifies.
    """
    try:
        distance, more = _merged(subject, torch.float32)
        if distance > MERGED:
            distance, more = _merged(subject, torch.float64)
    except MethodProblem as error:
        return error.message
    if distance > MERGED:
        return f"Merged, its logits differ by {distance:.2g} of the largest."
    return f"Merged, the model holds {more:,} parameters more than the base." if more else None


def _merged(subject: Subject, precision: torch.dtype) -> tuple[float, int]:
    """How far merged logits are from attached ones, as a share of the largest, and how many parameters are left."""
    base = subject.base()
    base.model.to(precision)
    size = base.parameters
    with attached(subject.method, base, to_merge=True) as adapter:
        adapter.module.to(precision)
        adapter.put(subject.trained().lent.adapter.state())
        before = reference_logits(adapter.module, base)
        merged = subject.method.merge(adapter.module, base)
        after = reference_logits(merged, base)
        more = sum(value.numel() for value in merged.parameters()) - size
    return furthest(before, after) / max(1.0, float(before.abs().max())), more


def _saved(subject: Subject) -> Path:
    """The folder of the trained adapter, written once."""
    folder = subject.scratch / "adapter"
    if not folder.exists():
        folder.mkdir()
        lent = subject.trained().lent
        subject.method.save(lent.adapter.module, lent.base, folder)
    return folder


def _job(subject: Subject, output: Path, what: Literal["logits", "answers"]) -> Job:
    model = str(subject.facts.folder or subject.facts.name)
    return Job(model, subject.named.load, subject.method.settings(), str(_saved(subject)), str(output), what)
