"""The adapter of a run loads with stock `peft` in a fresh process and gives the answers of the record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import pytest

from e2e.command import OF_EACH_KIND, environment, peftbench
from peftbench import registry
from peftbench.methods._peft import PeftMethod
from peftbench.record import Prediction, Record
from peftbench.store import Store
from peftbench.tasks._task import Task

# Knows nothing of peftbench: transformers and peft as anyone uses them, one example at a time, fp32.
READER = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, jobs = sys.argv[1:3]
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(folder)

def ask(model, question):
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": question["message"]}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    else:
        text = question["message"] + "\\nAnswer:\\n"
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], dim=1)
    several = hasattr(model.active_peft_config, "n_tasks") or hasattr(model.active_peft_config, "num_tasks")
    of_first = {"task_ids": torch.zeros(1, dtype=torch.long)} if several else {}
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, **of_first,
                         max_new_tokens=question["max_new_tokens"],
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip()

answers = []
for job in json.load(open(jobs)):
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, job["adapter"]).eval()
    answers.append([ask(model, question) for question in job["questions"]])
print(json.dumps(answers))
"""

SHARED = Path(__file__).parents[3] / "shared"


def _known(name: str) -> bool:
    method = registry.load("methods", name).value
    return issubclass(method, PeftMethod) and method.causal and method.quantization is None


# Every method that the library knows, on the base as it is, and that answers a question alone as it does in a batch.
KNOWN = [name for name in registry.shipped("methods") if _known(name)]
ASKED = pytest.mark.parametrize(
    "methods",
    [[name for name in KNOWN if name in OF_EACH_KIND], pytest.param(KNOWN, marks=pytest.mark.slow)],
    ids=["of each kind", "all"],
)


def _run(store: Path, known: list[str], *ask: str | Path) -> Store:
    """One run of each method, and of p_tuning with its other encoder, which has to mean the same to the library."""
    methods = [*(f"{{use: {name}}}" for name in known), "{use: p_tuning, encoder_reparameterization_type: MLP}"]
    own = (f"methods=[{', '.join(methods)}]", "--seeds", "1", "--store", store, "--threads", "1", "--no-report")
    done = peftbench("run", *ask, *own)
    assert done.code == 0, done.err
    return Store(store)


def _compare(store: Store, folder: Path, tmp_path: Path) -> Counter[str]:
    """Ask every test question of every run again with stock peft; return how many were asked, by method."""
    adapters = {record.run_id: store.folder(record.run_id).adapter for record in store.records()}
    return compare(store, folder, adapters, tmp_path)


def compare(store: Store, folder: Path, adapters: Mapping[str, Path], tmp_path: Path) -> Counter[str]:
    """Ask every test question of every run again with stock peft and the adapter of the run; how many, by method."""
    records = store.records()
    written = [[row for row in store.predictions(record.run_id) if row.split == "test"] for record in records]
    jobs = [
        {"adapter": str(adapters[record.run_id]), "questions": _questions(record, rows)}
        for record, rows in zip(records, written, strict=True)
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-W", "ignore", "-c", READER, str(folder), str(tmp_path / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    asked: Counter[str] = Counter()
    for record, rows, texts in zip(records, written, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert texts == [row.text for row in rows], record.run_id
        asked[record.spec.method.name] += len(rows)
    return asked


def _questions(record: Record, predictions: Sequence[Prediction]) -> list[dict[str, object]]:
    task: Task = registry.load("tasks", record.spec.task.name).value
    rows = task.source.rows("test", record.resources.data_root, record.spec.task.data)
    questions: list[dict[str, object]] = []
    for prediction in predictions:
        example = task.ask(rows[int(prediction.id.partition("/")[2])])
        message = "\n".join(part for part in (example.instruction, example.body, example.question) if part)
        questions.append({"message": message, "max_new_tokens": record.spec.evaluate.max_new_tokens})
    return questions


@ASKED
def test_embedded_model(methods: list[str], tmp_path: Path) -> None:
    ask = ("--tasks", "toy_mood", "--models", "tiny", "train.max_steps=20", "evaluate.limit=12")
    asked = _compare(_run(tmp_path / "s", methods, *ask), Path(str(files("peftbench.models") / "tiny")), tmp_path)
    assert asked == {name: 24 if name == "p_tuning" else 12 for name in methods}


@pytest.mark.shared
@ASKED
def test_real_model(methods: list[str], tmp_path: Path) -> None:
    folder = SHARED / "models" / "stories15m-llama2"
    ask = ("--tasks", "copa", "--models", folder, "--data-root", SHARED / "data")
    limits = ("train.limit=32", "train.max_steps=8", "evaluate.limit=12")
    asked = _compare(_run(tmp_path / "s", methods, *ask, *limits), folder, tmp_path)
    assert asked == {name: 24 if name == "p_tuning" else 12 for name in methods}
