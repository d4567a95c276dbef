"""The other side of `FreshProcess`: reads jobs from standard input, one JSON line each, and answers with faults."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from peftbench import registry
from peftbench.methods._method import Method, build
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel
from peftbench.testing.check import explained
from peftbench.testing.fresh import Job
from peftbench.testing.models import load_here
from peftbench.testing.subject import borrowed
from peftbench.testing.toy import reference_logits, single, toy

# Another one than any adapter is trained with: what was not saved cannot be drawn again.
_OTHER_SEED = 987
NEW_TOKENS = 6


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(1)
    # Libraries print; only faults may reach the other side.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = Job(**json.loads(line))
        fault = _in_child(job) if hasattr(os, "fork") else _fault(job)
        replies.write(json.dumps(fault) + "\n")
        replies.flush()


def _in_child(job: Job) -> str:
    """Do a job in a fork, so that nothing of it stays behind."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w", encoding="utf-8") as pipe:
            pipe.write(_fault(job))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or (f"the fresh process ended with status {status}" if status else "")


def _fault(job: Job) -> str:
    doing: dict[str, Callable[[Job], None]] = {"logits": write_logits, "answers": write_answers}
    try:
        doing[job.what](job)
    except Exception as error:  # noqa: BLE001 - whatever a method raises is told on the other side
        traceback.print_exc()
        return explained(error, job.load if Path(job.load).exists() else None)
    return ""


def write_logits(job: Job) -> None:
    """Write the logits of a loaded adapter."""
    method, base = _method(job), _base(job)
    torch.manual_seed(_OTHER_SEED)
    with borrowed(method, base) as adapter:
        method.load(adapter.module, base, Path(job.adapter))
        save_file({"logits": reference_logits(adapter.module, base)}, job.output)


def write_answers(job: Job) -> None:
    """Write the greedy answers that the `peft` library gives with an adapter, one unpadded prompt at a time."""
    base = _base(job)
    plain = AutoModelForCausalLM.from_pretrained(base.facts.folder or base.facts.name, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(plain, job.adapter).eval()
    answers = [_generate(model, prompt, base) for prompt in toy(base.chat.end_id).prompts]
    Path(job.output).write_text(json.dumps(answers), encoding="utf-8")


def _generate(model: Any, prompt: tuple[int, ...], base: LoadedModel) -> list[int]:
    end = base.chat.end_id
    how = GenerationConfig(do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=end)
    batch = single(prompt, base.device)
    # A method of several tasks asks for the one a row is of.
    several = any(hasattr(model.active_peft_config, name) for name in ("n_tasks", "num_tasks"))
    tasks = {"task_ids": torch.zeros(1, dtype=torch.long)} if several else {}
    ids = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, generation_config=how, **tasks)
    new: list[int] = ids[0, len(prompt) :].tolist()
    return new[: new.index(end)] if end in new else new


def _method(job: Job) -> Method:
    if ":" not in job.load or job.load.endswith(".py"):
        member = registry.load("methods", job.load)
        return build(member.name, member.value, job.settings)
    module, _, name = job.load.partition(":")
    return build(name, getattr(importlib.import_module(module), name), job.settings)


def _base(job: Job) -> LoadedModel:
    return load_here(find(job.model))


if __name__ == "__main__":
    main()
