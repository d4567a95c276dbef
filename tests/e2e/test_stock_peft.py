"""A LoRA adapter of a run loads with stock `peft` in a fresh process and gives the record's answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import environment, peftbench
from peftbench.store import Store

# Knows nothing of peftbench: transformers and peft as anyone uses them, one example at a time, fp32.
READER = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, adapter, asked = sys.argv[1:4]
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter).eval()
texts = []
for question in json.load(open(asked)):
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": question["message"]}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    else:
        text = question["message"] + "\\nAnswer:\\n"
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], dim=1)
    mask = torch.ones_like(ids)
    out = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=question["max_new_tokens"],
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    texts.append(tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip())
print(json.dumps(texts))
"""

SHARED = Path(__file__).parents[3] / "shared"


def _compare(store: Path, folder: Path, tmp_path: Path) -> int:
    """Ask every test question again with stock peft; return how many were asked."""
    from peftbench import registry

    record = Store(store).records()[0]
    assert record.failure is None
    predictions = [row for row in Store(store).predictions(record.run_id) if row.split == "test"]
    member = registry.load("tasks", record.spec.task.name)
    rows = member.value.source.rows("test", record.resources.data_root, record.spec.task.data)
    asked = []
    for prediction in predictions:
        example = member.value.ask(rows[int(prediction.id.partition("/")[2])])
        message = "\n".join(part for part in (example.instruction, example.body, example.question) if part)
        asked.append({"message": message, "max_new_tokens": record.spec.evaluate.max_new_tokens})
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    adapter = Store(store).folder(record.run_id).adapter
    command = [sys.executable, "-c", READER, str(folder), str(adapter), str(tmp_path / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [row.text for row in predictions]
    return len(predictions)


def test_embedded_model(tmp_path: Path) -> None:
    from importlib.resources import files

    ask = ("--tasks", "toy_mood", "--models", "tiny", "--methods", "lora", "--seeds", "1")
    done = peftbench(
        "run",
        *ask,
        "--store",
        tmp_path / "s",
        "--threads",
        "1",
        "--no-report",
        "train.max_steps=20",
        "evaluate.limit=30",
    )
    assert done.code == 0, done.err
    assert _compare(tmp_path / "s", Path(str(files("peftbench.models") / "tiny")), tmp_path) == 30


@pytest.mark.shared
def test_real_model(tmp_path: Path) -> None:
    folder = SHARED / "models" / "stories15m-llama2"
    ask = ("--tasks", "copa", "--models", folder, "--methods", "lora", "--seeds", "1", "--data-root", SHARED / "data")
    limits = ("train.limit=64", "train.num_train_epochs=2", "evaluate.limit=24")
    done = peftbench("run", *ask, "--store", tmp_path / "s", "--threads", "1", "--no-report", *limits)
    assert done.code == 0, done.err
    assert _compare(tmp_path / "s", folder, tmp_path) == 24
