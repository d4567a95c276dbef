"""Adapters that were trained before, elsewhere or here, are asked as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from e2e.command import environment, peftbench
from e2e.test_stock_peft import compare
from peftbench.record import Record
from peftbench.store import Store

TINY = Path(str(files("peftbench.models") / "tiny"))
FOLDERS = Path(__file__).parents[1] / "folders"
ASK = ("--tasks", "toy_mood", "--models", "tiny", "--threads", "1", "--no-report", "evaluate.limit=12")

# Knows nothing of peftbench: transformers and peft as anyone uses them. What is learned is of no use, and much of it.
TRAINER = """
import sys, torch, peft
from transformers import AutoModelForCausalLM
folder, out = sys.argv[1:3]
usual = {"task_type": "CAUSAL_LM"}
two = {"target_modules": ["q_proj", "v_proj"]}
KINDS = {
    "lora": (peft.LoraConfig(r=4, modules_to_save=["lm_head"], **two, **usual), 1e-2),
    "pissa": (peft.LoraConfig(r=4, init_lora_weights="pissa", **two, **usual), 1e-2),
    "ia3": (peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **usual), 0.3),
    "prefix": (peft.PrefixTuningConfig(num_virtual_tokens=6, prefix_projection=True, **usual), 3e-2),
    "prompt": (peft.PromptTuningConfig(num_virtual_tokens=6, **usual), 1.0),
    "p_tuning": (peft.PromptEncoderConfig(num_virtual_tokens=6, encoder_hidden_size=16, **usual), 0.1),
    "poly": (peft.PolyConfig(r=4, **two, **usual), 3e-2),
}
for name, (config, rate) in KINDS.items():
    torch.manual_seed(5)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=rate)
    ids = torch.randint(5, 300, (8, 16))
    more = {"task_ids": torch.zeros(8, dtype=torch.long)} if name == "poly" else {}
    for _ in range(12):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, **more).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(f"{out}/{name}")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters that peft alone trained, in folders by kind."""
    out = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-W", "ignore", "-c", TRAINER, str(TINY), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_adapters_of_stock_peft_answer_as_they_do_there(elsewhere: Path, tmp_path: Path) -> None:
    kinds = sorted(path.name for path in elsewhere.iterdir())
    named = [word for kind in kinds for word in ("--adapter", str(elsewhere / kind))]
    done = peftbench("evaluate", *named, *ASK, "--store", tmp_path / "s")
    assert done.code == 0, done.err
    assert "Warning" not in done.err
    assert "trained on" not in done.err, "the folder of the base is called tiny as well"
    store = Store(tmp_path / "s")
    records = {record.spec.method.name: record for record in store.records()}
    adapters = {record.run_id: elsewhere / name for name, record in records.items()}
    assert compare(store, TINY, adapters, tmp_path) == dict.fromkeys(kinds, 12)
    written = {name: tuple(row.text for row in store.predictions(found.run_id)) for name, found in records.items()}
    assert len(set(written.values())) > 4, "what was learned makes a difference"
    for name, record in records.items():
        assert record.cost is not None
        assert record.fit is None
        assert (record.spec.seed, record.spec.train) == (None, None)
        assert record.cost.adapter_bytes == (elsewhere / name / "adapter_model.safetensors").stat().st_size
        assert record.cost.trainable_parameters == stored(elsewhere / name / "adapter_model.safetensors")
    assert not list(tmp_path.glob("s/runs/*/adapter"))


def stored(file: Path) -> int:
    from safetensors.torch import load_file

    return sum(value.numel() for value in load_file(file).values())


def test_what_a_run_trained_answers_as_it_did_then(tmp_path: Path) -> None:
    """Own formats, the library's, and a tuner of somebody's own: the same answers, scores and bytes."""
    for name in ("additive_scale", "low_shift"):
        shutil.copytree(FOLDERS / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    config = {"peft_type": "ADALORA", "total_step": 100, "tinit": 20, "tfinal": 20, "target_modules": ["up_proj"]}
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "mine.yaml").write_text(
        "tasks: [toy_dial]\nmodels: [tiny]\n"
        "methods: [lora, vera, prefix_tuning, p_tuning, bitfit, svft, bottleneck, last_layers, "
        "{use: ./additive_scale, strength: 2.0, target_modules: [up_proj, k_proj]}, "
        "{use: ./low_shift, r: 2}, ./ranks]\n"
        "train: {max_steps: 6, learning_rate: 0.05, limit: 48}\nevaluate: {limit: 12}\n"
    )
    done = peftbench("run", "mine.yaml", "--threads", "1", "--no-report", "--store", "s", folder=tmp_path)
    assert done.code == 0, done.err
    trained = Store(tmp_path / "s").records()
    scale = next(record for record in trained if record.spec.method.name == "additive_scale")
    wanted = {"groups": 1, "start": "zero", "strength": 2.0, "target_modules": ["up_proj", "k_proj"]}
    assert scale.spec.method.settings == wanted
    assert scale.spec.method.plugin
    named = [word for record in trained for word in ("--adapter", f"s/runs/{record.run_id}/adapter")]
    done = peftbench("evaluate", *named, "--tasks", "toy_dial", *ASK[2:], "--store", "e", folder=tmp_path)
    assert done.code == 0, done.err
    assert "trained on" not in done.err
    asked = {record.spec.method.name: record for record in Store(tmp_path / "e").records()}
    assert len(asked) == len(trained)
    for record in trained:
        again = asked[f"{record.spec.method.name}-{record.run_id[-8:]}"]
        assert again.test == record.test
        assert answers(tmp_path / "e", again) == answers(tmp_path / "s", record)
        assert record.cost is not None
        assert again.cost is not None
        assert again.cost.adapter_bytes == record.cost.adapter_bytes
        assert again.cost.trainable_parameters == record.cost.trainable_parameters
    assert len({answers(tmp_path / "s", record) for record in trained}) > 3


def answers(store: Path, record: Record) -> tuple[tuple[str, str | None], ...]:
    return tuple((row.id, row.text) for row in Store(store).predictions(record.run_id) if row.split == "test")


def test_an_adapter_for_another_model_is_told_and_fails_in_a_sentence(
    elsewhere: Path, tmp_path: Path, fresh_tiny: Path
) -> None:
    named = [word for kind in ("lora", "prompt", "prefix") for word in ("--adapter", elsewhere / kind)]
    ask = ("--tasks", "toy_mood", "--models", fresh_tiny, "--store", tmp_path, "evaluate.limit=2")
    done = peftbench("evaluate", *named, *ask, "--no-report")
    assert done.code == 1
    told = " ".join(done.err.split())
    assert f"lora: it was trained on {TINY}, which other may not be." in told
    failures = [record.failure for record in Store(tmp_path).records()]
    assert len(failures) == 3
    for failure in failures:
        assert failure is not None
        assert failure.phase == "attach"
        assert "does not fit other: " in failure.message
        assert failure.message.count("\n") == 0
        assert failure.fix == f"Take the model that it was trained on, {TINY}."


@pytest.fixture
def fresh_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same family."""
    from peftbench.testing.models import save_tiny

    return save_tiny("llama", tmp_path_factory.mktemp("models") / "other")


def test_what_cannot_be_evaluated_is_a_sentence(elsewhere: Path, tmp_path: Path) -> None:
    def said(adapter: str) -> str:
        done = peftbench("evaluate", "--adapter", adapter, *ASK, "--store", "s", folder=tmp_path)
        assert done.code == 2
        return done.sentence

    config = json.loads((elsewhere / "lora" / "adapter_config.json").read_text())
    for name, change in {"pickled": {}, "classes": {"task_type": "SEQ_CLS"}, "newer": {"peft_type": "LORAX"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "pickled" / "adapter_model.bin").write_bytes(b"")
    for name in ("classes", "newer"):
        shutil.copy(elsewhere / "lora" / "adapter_model.safetensors", tmp_path / name)
    shutil.copytree(elsewhere / "lora", tmp_path / "cut")
    whole = (tmp_path / "cut" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(whole[:100])
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "adapter.safetensors").write_bytes(whole)
    assert "There is no folder gone." in said("gone")
    assert "are a pickle (adapter_model.bin), which can run anything when it is read." in said("pickled")
    assert "is for the task type SEQ_CLS" in said("classes")
    assert "Did you mean 'LORA'?" in said("newer")
    assert "adapter_model.safetensors is damaged: it is no safetensors file." in said("cut")
    assert "holds weights, and no adapter_config.json says of which method they are." in said("bare")
    (tmp_path / "settings").mkdir()
    shutil.copy(elsewhere / "lora" / "adapter_config.json", tmp_path / "settings")
    assert "settings holds no weights. Train it: peftbench run --methods ./settings" in said("settings")
    (check,) = json.loads(peftbench("check", str(elsewhere / "lora"), "--json").out)
    assert check["detail"] == f"{elsewhere / 'lora'} was trained before: there is nothing to check."
    assert not (tmp_path / "s").exists()


def test_a_lost_tensor_is_found(elsewhere: Path, tmp_path: Path) -> None:
    """Stock peft warns of it and goes on with a random one."""
    from safetensors.torch import load_file, save_file

    for name, change in {"lost": 0, "added": 1}.items():
        shutil.copytree(elsewhere / "pissa", tmp_path / name)
        file = tmp_path / name / "adapter_model.safetensors"
        tensors = load_file(file)
        first = min(tensors)
        if change:
            tensors[first.replace("layers.0", "layers.9")] = tensors[first].clone()
        else:
            del tensors[first]
        save_file(tensors, file)
    done = peftbench("evaluate", "--adapter", "lost", "--adapter", "added", *ASK, "--store", "s", folder=tmp_path)
    assert done.code == 1
    records = Store(tmp_path / "s").records()
    assert len({record.spec.method.plugin for record in records}) == 2, "what is in the files is what they are"
    failed = {record.spec.method.name: record.failure for record in records}
    assert failed["lost"] is not None
    assert " lacks base_model.model.model.layers.0" in failed["lost"].message
    assert failed["added"] is not None
    assert "does not fit tiny: the model has no place for base_model.model.model.layers.9" in failed["added"].message
