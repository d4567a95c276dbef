"""What is written of a trained adapter, and whether another process can use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file

from peftbench.testing.answers import EXACT, answers
from peftbench.testing.fresh import Job
from peftbench.testing.subject import Subject
from peftbench.testing.toy import furthest, reference_logits

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
    return None if distance <= EXACT else f"Loaded in a fresh process, the logits differ by {distance:.2g}."


def stock(subject: Subject) -> str | None:
    """The fault of an adapter that the `peft` library, left to itself, reads differently."""
    output = subject.scratch / "answers.json"
    fault = subject.fresh.do(_job(subject, output, "answers"))
    if fault:
        return f"PeftModel.from_pretrained in a fresh process: {fault}"
    ours, theirs = answers(subject.trained().lent, batch=1), json.loads(output.read_text(encoding="utf-8"))
    differing = [place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    return f"PeftModel.from_pretrained answers prompt {differing[0]} differently." if differing else None


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
