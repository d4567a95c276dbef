"""The real clients of the Hugging Face hub, against a hub on loopback.

The clients read `HF_ENDPOINT` when they are imported, so each question is asked in a process of its own, with a cache
of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from e2e.command import impatient
from e2e.hub_server import TOKEN, Hub, serving

CARD = """---
dataset_info:
  features:
  - name: sentence
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': negative
          '1': positive
  - name: idx
    dtype: int32
---
Film reviews, invented.
"""
OPENING = """
import dataclasses, json, os, sys
from peftbench.errors import PeftbenchError
from peftbench.hub import resolve
from peftbench.models._facts import find
from peftbench.tasks._source import HubDataset
from peftbench.tasks import sst2
from peftbench.tasks._task import items

def source(name, subset=None, **fields):
    return HubDataset(name, subset, mirror="unused", **fields)

def told(question):
    try:
        return question()
    except PeftbenchError as error:
        return [type(error).__name__, error.message, error.fix]

answers = {}
"""
SPLITS = ("train", "validation")
CLOSING = "\nprint(json.dumps(answers))"


def rows(*sentences: str, names: bool = False) -> str:
    labels: list[Any] = ["negative", "positive"] if names else [0, 1]
    lines = [{"sentence": text, "label": labels[place % 2], "idx": place} for place, text in enumerate(sentences)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def asked(endpoint: str, home: Path, script: str, **variables: str) -> dict[str, Any]:
    """What a process says that knows only this hub, and starts with this cache."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "COVERAGE", "COV_"))
    }
    environment = {
        **kept,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        **impatient(),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", OPENING + script + CLOSING],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


# ---- data sets -----------------------------------------------------------------------------------------------------


def test_a_branch_becomes_a_commit_and_rows_are_those_of_the_commit(hub: Hub, home: Path) -> None:
    def files(*sentences: str, names: bool = False) -> dict[str, str | bytes]:
        # A card that names the classes is for numbers; without one, labels stay the text they are.
        texts = {"train.jsonl": rows(*sentences, names=names), "validation.jsonl": rows("held out", names=names)}
        return {"README.md": "Invented." if names else CARD, **texts}

    old = hub.add("dataset", "owner/numbers", files("old a", "old b"))
    new = hub.add("dataset", "owner/numbers", files("new a", "new b"))
    hub.add("dataset", "owner/numbers", files("side a", "side b"), branch="side")
    named = hub.add("dataset", "owner/names", files("a", "b", names=True))
    answers = asked(
        hub.endpoint,
        home,
        f"""
numbers, names = source("owner/numbers"), source("owner/names")
side = source("owner/numbers", revision="side")
answers["identities"] = [numbers.identity(None), side.identity(None), names.identity(None)]
answers["new"] = numbers.rows("train", None, answers["identities"][0])
answers["old"] = numbers.rows("train", None, "hub:owner/numbers/default@{old}")
answers["test"] = numbers.rows("test", None, answers["identities"][0])
answers["names"] = names.rows("train", None, answers["identities"][2])
answers["targets"] = [
    [item.references for item in items(sst2.TASK, list(enumerate(rows)), "train")]
    for rows in (answers["new"], answers["names"])
]
# The table itself knows the names of its classes: what the data set hands out is really a class label.
import datasets
answers["feature"] = str(datasets.load_dataset("owner/numbers", split="train", revision="{new}").features["label"])
""",
    )
    assert old != new
    assert answers["identities"][0] == f"hub:owner/numbers/default@{new}"
    assert answers["identities"][1].startswith("hub:owner/numbers/default@")
    assert answers["identities"][1] != answers["identities"][0]
    assert answers["identities"][2] == f"hub:owner/names/default@{named}"
    assert [row["sentence"] for row in answers["new"]] == ["new a", "new b"]
    assert [row["sentence"] for row in answers["old"]] == ["old a", "old b"]
    assert [row["sentence"] for row in answers["test"]] == ["held out"]
    assert [row["label"] for row in answers["new"]] == [0, 1]
    assert [row["label"] for row in answers["names"]] == ["negative", "positive"]
    assert answers["targets"] == [[["negative"], ["positive"]]] * 2
    assert "ClassLabel" in answers["feature"]
    fetched = {line.split("/resolve/")[1].split("/")[0] for line in hub.requests if "train.jsonl" in line}
    assert fetched == {old, new, named}


def test_a_repository_with_a_script_is_read_elsewhere(hub: Hub, home: Path) -> None:
    """The branch of Parquet files, one folder for each subset, or another repository; nothing of a script is run."""
    everything = pa.table({"sentence": ["easy"] * 4 + ["hard"], "label": [0, 1, 0, 1, 1]})
    parts = {f"{subset}/{split}/0000.parquet": parquet(everything) for subset in ("all", "some") for split in SPLITS}
    hub.add("dataset", "owner/piqa", {"piqa.py": "raise SystemExit(1)", "README.md": "Invented."})
    branch = hub.add("dataset", "owner/piqa", {"README.md": "Made by the hub.", **parts}, branch="refs/convert/parquet")
    copied = {"train.jsonl": rows(*"abcde"), "validation.jsonl": rows(*"fghij")}
    copy = hub.add("dataset", "other/piqa", copied)
    hub.add("dataset", "owner/plain", {f"{split}.jsonl": rows(split) for split in SPLITS})
    answers = asked(
        hub.endpoint,
        home,
        """
from peftbench.tasks._source import Origin, parquet_branch
branch, copy = parquet_branch("owner/piqa", "all"), Origin("other/piqa")
def tried(name, *instead, sizes=(5, 5)):
    found = source(name, instead=instead, sizes=sizes)
    def ask():
        identity = found.identity(None)
        return [identity, found.rows("train", None, identity)]
    return told(ask)

answers["branch"] = tried("owner/piqa", branch, copy)
answers["copy"] = tried("owner/piqa", copy)
answers["short"] = tried("owner/piqa", branch, sizes=(6, 5))
answers["itself"] = tried("owner/plain", branch)
answers["none"] = tried("owner/piqa", Origin("owner/piqa", "again"))
""",
    )
    # Nothing of it is in this cache, which could answer in place of the repository.
    fresh = asked(
        hub.endpoint,
        home.with_name("fresh"),
        """
bare = source("owner/piqa")
answers["bare"] = told(lambda: bare.rows("train", None, bare.identity(None)))
""",
    )
    assert len(answers["branch"]) == 2, answers["branch"]
    identity, found = answers["branch"]
    assert identity == f"hub:owner/piqa/parquet/all@{branch}"
    assert [row["sentence"] for row in found] == ["easy"] * 4 + ["hard"]
    identity, found = answers["copy"]
    assert identity == f"hub:other/piqa/default@{copy}"
    assert [row["sentence"] for row in found] == list("abcde")
    assert "stands in for owner/piqa, but its split train has 5 rows, not 6" in answers["short"][1]
    # What can be read is taken as it is: sizes are there to compare another place with it.
    assert answers["itself"][0].startswith("hub:owner/plain/default@"), answers["itself"]
    assert "need a loading script" in answers["none"][1]
    assert fresh["bare"][:2] == ["DataProblem", "The data set owner/piqa needs a loading script."]
    assert "--data-root" in fresh["bare"][2]


def test_the_cache_never_stands_in_for_another_commit(hub: Hub, home: Path) -> None:
    one = hub.add("dataset", "owner/moving", {"train.jsonl": rows("one"), "validation.jsonl": rows("one")})
    two = hub.add("dataset", "owner/moving", {"train.jsonl": rows("two"), "validation.jsonl": rows("two")})
    rows_of = """
answers["{0}"] = told(lambda: source("owner/moving").rows("train", None, "hub:owner/moving/default@{1}"))
"""
    script = rows_of.format("one", one) + rows_of.format("two", two)
    assert asked(hub.endpoint, home, rows_of.format("two", two))["two"][0]["sentence"] == "two"
    # Cut off, the library would hand out what it has, whatever was asked for; the commit that is there is fine.
    offline = asked(hub.endpoint, home, script, HF_HUB_OFFLINE="1")
    assert offline["two"][0]["sentence"] == "two"
    refused = offline["one"]
    assert refused[0] == "DataProblem"
    assert f"Commit {one} of owner/moving cannot be reached" in refused[1]
    assert "--data-root" in refused[2]
    assert asked(hub.endpoint, home, script)["one"][0]["sentence"] == "one"


def by_subset(*names: str, default: str = "") -> dict[str, str | bytes]:
    """A repository with subsets of these names, each of whose rows say where they are from."""
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": f"{name}/{split}.jsonl"} for split in SPLITS],
        }
        | ({"default": True} if name == default else {})
        for name in names
    ]
    texts = {f"{name}/{split}.jsonl": rows(f"{name} {split}") for name in names for split in SPLITS}
    return {"README.md": f"---\n{json.dumps({'configs': configs})}\n---\nInvented.\n", **texts}


def test_the_cache_never_stands_in_for_another_subset(tmp_path: Path, home: Path) -> None:
    def asking(name: str, commit: str, *subsets: str | None) -> str:
        return f"""
for subset in {subsets}:
    found = source({name!r}, subset)
    key = f"{name} {{subset}}"
    answers[key] = told(lambda: found.rows("train", None, f"hub:{{found.origins[0].name}}@{commit}"))
"""

    with serving(tmp_path / "hub") as hub:
        two = hub.add("dataset", "owner/two", by_subset("a", "b", default="a"))
        plain = hub.add("dataset", "owner/plain", by_subset("default", "more"))
        warm = asking("owner/two", two, "b") + asking("owner/plain", plain, None, "more")
        there = asked(hub.endpoint, home, warm)
        assert [found[0]["sentence"] for found in there.values()] == ["b train", "default train", "more train"]
        other, default = home.with_name("other"), asking("owner/two", two, None)
        online = asked(hub.endpoint, other, default)
        assert online["owner/two None"][0]["sentence"] == "a train"
        # What is cached is found again, under its name and as the default one.
        assert asked(hub.endpoint, home, warm, HF_HUB_OFFLINE="1") == there
        assert asked(hub.endpoint, other, default, HF_HUB_OFFLINE="1") == online
        off = asked(hub.endpoint, home, asking("owner/two", two, None, "a"), HF_HUB_OFFLINE="1")
    down = asked(hub.endpoint, home, asking("owner/two", two, None, "a", "b"))
    assert down.pop("owner/two b")[0]["sentence"] == "b train"
    for kind, message, fix in off.values():
        assert kind == "DataProblem"
        assert message == f"The dataset owner/two/a at revision '{two}' is not in the cache, and the hub is off."
        assert "--data-root" in fix
    assert asked(hub.endpoint, other, default) == online
    said = f"The dataset owner/two/a at revision '{two}' is not in the cache, and the hub cannot be reached."
    assert down["owner/two None"][1] == said
    assert f"The dataset owner/two at revision '{two}' cannot be fetched: " in down["owner/two a"][1]


def test_files_of_the_parquet_branch_come_from_the_cache_when_the_hub_is_off(hub: Hub, home: Path) -> None:
    parts = {
        f"{subset}/{split}/000{number}.parquet": parquet(pa.table({"x": [f"{subset} {split} {number}"]}))
        for subset in ("all", "some")
        for split in SPLITS
        for number in range(2)
    }
    commit = hub.add("dataset", "owner/parts", parts, branch="refs/convert/parquet")
    asking = f"""
from peftbench.tasks._source import parquet_branch
for subset in ("all", "some")[: int(os.environ["SUBSETS"])]:
    found = source("owner/parts", subset, instead=(parquet_branch("owner/parts", subset),))
    for split in ("train", "test"):
        answers[f"{{subset}} {{split}}"] = told(
            lambda: [row["x"] for row in found.rows(split, None, f"hub:owner/parts/parquet/{{subset}}@{commit}")]
        )
"""
    there = {
        "all train": ["all train 0", "all train 1"],
        "all test": ["all validation 0", "all validation 1"],
    }
    assert asked(hub.endpoint, home, asking, SUBSETS="1") == there
    assert {path.partition("/")[0] for path, _ in hub.parts} == {"all"}
    offline = asked(hub.endpoint, home, asking, SUBSETS="2", HF_HUB_OFFLINE="1")
    off = f"The dataset owner/parts at revision '{commit}' is not in the cache, and the hub is off."
    assert [offline.pop(f"some {split}")[1] for split in ("train", "test")] == [off, off]
    assert offline == there
    # A cache that was not filled to the end is as good as none.
    first = next(home.rglob("all/train/0000.parquet"))
    first.unlink()
    assert asked(hub.endpoint, home, asking, SUBSETS="1", HF_HUB_OFFLINE="1")["all train"][1] == off


def test_values_are_those_that_a_file_of_ones_own_gives(hub: Hub, home: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "at": [datetime(2020, 1, 2, 3, 4, 5), None],
            "day": [date(2020, 1, 2), date(2021, 1, 1)],
            "bytes": ["é".encode(), b"text"],
            "number": [float("nan"), 1.5],
            "price": [Decimal("1.50"), Decimal("2.25")],
            "inner": [{"numbers": [float("nan"), 2.0]}, {"numbers": []}],
        }
    )
    content = {f"{split}.parquet": parquet(table) for split in SPLITS}
    hub.add("dataset", "owner/values", content)
    hub.add("dataset", "owner/values", {f"all/{path[:-8]}/0.parquet": data for path, data in content.items()}, "kept")
    odd = {"text": ["a", "b"], "took": [timedelta(1), timedelta(2)]}, {"text": ["a"], "blob": [b"\xff"]}
    for number, columns in enumerate(odd):
        hub.add("dataset", f"owner/odd{number}", {f"{split}.parquet": parquet(pa.table(columns)) for split in SPLITS})
    (tmp_path / "own.parquet").write_bytes(content["train.parquet"])
    answers = asked(
        hub.endpoint,
        home,
        """
from pathlib import Path
from peftbench.tasks._files import read_rows
from peftbench.tasks._source import Origin
def train_rows(chosen):
    return told(lambda: chosen.rows("train", None, chosen.identity(None)))

answers["own"] = read_rows(Path("own.parquet"))
answers["hub"] = train_rows(source("owner/values"))
kept = Origin("owner/values", revision="kept", files={"train": "all/train/*.parquet"})
answers["files"] = told(lambda: kept.rows("train", resolve("dataset", kept.id, "kept")))
answers["odd"] = [train_rows(source(f"owner/odd{number}")) for number in range(2)]
""",
    )
    assert answers["own"][0] == {
        "at": "2020-01-02T03:04:05",
        "day": "2020-01-02",
        "bytes": "é",
        "number": None,
        "price": "1.50",
        "inner": {"numbers": [None, 2.0]},
    }
    assert answers["hub"] == answers["own"]
    assert answers["files"] == answers["own"]
    for (kind, message, fix), column, number in zip(answers["odd"], ("took", "blob"), range(2), strict=True):
        assert kind == "DataProblem"
        assert message == f"owner/odd{number}, split train, row 1 has in the column {column!r} what JSON cannot hold."
        assert "--data-root" in fix


def test_what_is_wrong_with_a_data_set_is_one_sentence_and_a_fix(hub: Hub, home: Path) -> None:
    good: dict[str, str | bytes] = {"README.md": CARD, "train.jsonl": rows("a"), "validation.jsonl": rows("b")}
    hub.add("dataset", "owner/good", good)
    hub.add("dataset", "owner/closed", good)
    hub.add("dataset", "owner/broken", {**good, "train.jsonl": "{not json\n"})
    hub.add("dataset", "owner/empty", {"README.md": "nothing here"})
    hub.gate("dataset", "owner/closed")
    answers = asked(
        hub.endpoint,
        home,
        """
def train_rows(chosen):
    return told(lambda: chosen.rows("train", None, chosen.identity(None)))

answers["good"] = len(train_rows(source("owner/good")))
answers["missing"] = told(lambda: source("owner/missing").identity(None))
answers["revision"] = told(lambda: source("owner/good", revision="v9").identity(None))
answers["gated"] = told(lambda: source("owner/closed").identity(None))
answers["not an id"] = told(lambda: source("owner/two words").identity(None))
answers["split"] = train_rows(source("owner/good", train="trian"))
answers["subset"] = train_rows(source("owner/good", "sst2"))
answers["broken"] = train_rows(source("owner/broken"))
answers["empty"] = train_rows(source("owner/empty"))
""",
    )
    assert answers.pop("good") == 1
    expected = {
        "missing": "There is no dataset owner/missing on the hub.",
        "revision": "The dataset owner/good has no revision 'v9'.",
        "gated": "The dataset owner/closed is gated.",
        "not an id": "'owner/two words' is not the id of a dataset.",
        "split": 'Unknown split "trian"',
        "subset": "BuilderConfig 'sst2' not found",
        "broken": "The data set owner/broken cannot be read: ",
        "empty": "The dataset owner/empty at revision",
    }
    assert set(answers) == set(expected)
    for name, (kind, message, fix) in answers.items():
        assert kind == "DataProblem", name
        assert expected[name] in message
        assert fix
        assert "\n" not in message
        assert not message.endswith("..")
    assert "HF_TOKEN" in answers["gated"][2]
    assert "--data-root" in answers["missing"][2]


def test_with_a_token_a_gated_data_set_is_open_and_a_missing_one_still_missing(hub: Hub, home: Path) -> None:
    commit = hub.add("dataset", "owner/closed", {"train.jsonl": rows("a"), "validation.jsonl": rows("b")})
    hub.gate("dataset", "owner/closed")
    script = """
chosen = source("owner/closed")
answers["rows"] = told(lambda: chosen.rows("train", None, "hub:owner/closed/default@%s"))
answers["identity"] = told(lambda: chosen.identity(None))
answers["missing"] = told(lambda: source("owner/missing").identity(None))
"""
    opened = asked(hub.endpoint, home, script % commit, HF_TOKEN=TOKEN)
    assert opened["rows"][0]["sentence"] == "a"
    assert opened["identity"] == f"hub:owner/closed/default@{commit}"
    assert opened["missing"][1] == "There is no dataset owner/missing on the hub."
    refused = asked(hub.endpoint, home.with_name("stranger"), script % commit, HF_TOKEN="hf_other")
    assert refused["identity"][1] == "The dataset owner/closed is gated."
    assert "gated" in refused["rows"][1]


def test_a_hub_that_does_not_answer(tmp_path: Path, home: Path) -> None:
    with serving(tmp_path / "hub") as hub:
        hub.add("dataset", "owner/good", {"train.jsonl": rows("a")})
        script = """
answers["data"] = told(lambda: source("owner/good").identity(None))
answers["model"] = told(lambda: find("owner/tiny"))
"""
        assert asked(hub.endpoint, home, script)["data"].startswith("hub:owner/good")
    down = asked(hub.endpoint, home, script)
    assert down["data"][0] == "DataProblem"
    assert down["model"][0] == "ModelProblem"
    assert down["data"][2].endswith("--data-root DIR")
    assert down["model"][2].endswith("a local folder with the model.")
    for _, message, _ in down.values():
        assert "cannot be fetched" in message
        assert "\n" not in message
    offline = asked(hub.endpoint, home, script, HF_HUB_OFFLINE="1")
    assert "the hub is off" in offline["data"][1]
    assert "the hub is off" in offline["model"][1]


# ---- models --------------------------------------------------------------------------------------------------------

SIZES = {"vocab_size": 12, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["<end>", "<unknown>", "yes", "no", "is", "it", "good", "bad", "the", "film", "Answer", ":"]


def tiny_llama(seed: int) -> tuple[dict[str, str | bytes], float]:
    """The files of a random model of some thousand numbers, and the sum of all of them."""
    drawn = np.random.default_rng(seed)
    width, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (SIZES["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for number in range(SIZES["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{layer}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    weights = {name: drawn.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {
        **SIZES,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "eos_token_id": 0,
        "bos_token_id": None,
    }
    words = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: place for place, word in enumerate(WORDS)},
            "unk_token": "<unknown>",
        },
    }
    files: dict[str, str | bytes] = {
        "config.json": json.dumps(config),
        "model.safetensors": save(weights, {"format": "pt"}),
        "tokenizer.json": json.dumps(words),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}),
    }
    return files, float(sum(np.abs(value).astype(np.float64).sum() for value in weights.values()))


def test_a_model_of_the_hub_is_found_and_loaded_at_its_commit(hub: Hub, home: Path) -> None:
    old_files, old_sum = tiny_llama(1)
    new_files, new_sum = tiny_llama(2)
    old = hub.add("model", "owner/tiny", old_files, branch="v1")
    new = hub.add("model", "owner/tiny", new_files)
    assert (old != new, old_sum != new_sum) == (True, True)
    weights = new_files["model.safetensors"]
    assert isinstance(weights, bytes)
    cut = hub.add("model", "owner/cut", {**new_files, "model.safetensors": weights[: len(weights) // 2]})
    answers = asked(
        hub.endpoint,
        home,
        """
import torch
from peftbench.models._load import load
from peftbench.spec import ModelRef

for name, revision in (("main", None), ("v1", "v1")):
    facts = find("owner/tiny", revision)
    loaded = load(ModelRef(name=facts.name, revision=facts.revision), facts, torch.device("cpu"))
    answers[name] = {
        "facts": [facts.name, facts.revision, facts.model_type, facts.context, facts.shapes.layers, facts.folder],
        "sum": sum(float(value.abs().double().sum()) for value in loaded.model.parameters()),
        "parameters": loaded.parameters,
        "frozen": not any(value.requires_grad for value in loaded.model.parameters()),
        "ids": loaded.tokenizer("is it good", add_special_tokens=False)["input_ids"],
        "end": loaded.chat.end_id,
    }
cut = find("owner/cut")
answers["cut"] = told(lambda: load(ModelRef(name=cut.name, revision=cut.revision), cut, torch.device("cpu")))
""",
    )
    kind, message, fix = answers.pop("cut")
    assert kind == "ModelProblem"
    assert message.startswith("The model owner/cut cannot be loaded: Error while deserializing header")
    assert fix
    assert answers["main"]["facts"] == ["owner/tiny", new, "llama", 64, 2, None]
    assert answers["v1"]["facts"] == ["owner/tiny", old, "llama", 64, 2, None]
    assert answers["main"]["sum"] == pytest.approx(new_sum, rel=1e-9)
    assert answers["v1"]["sum"] == pytest.approx(old_sum, rel=1e-9)
    for told in answers.values():
        assert (told["frozen"], told["ids"], told["end"]) == (True, [4, 5, 6], 0)
        assert told["parameters"] == 12 * 16 + 16 + 2 * (4 * 16 * 16 + 3 * 16 * 24 + 2 * 16)
    fetched = {line.split("/resolve/")[1].split("/")[0] for line in hub.requests if "model.safetensors" in line}
    assert fetched == {old, new, cut}


def test_a_model_that_was_only_planned_is_told_to_be_cached_in_part(hub: Hub, home: Path) -> None:
    hub.add("model", "owner/tiny", tiny_llama(1)[0])
    look = """
answers["facts"] = find("owner/tiny").revision
"""
    commit = asked(hub.endpoint, home, look)["facts"]
    script = f"""
import torch
from peftbench.models._load import load
from peftbench.spec import ModelRef
answers["facts"] = told(lambda: find("owner/tiny", "{commit}").revision)
def loading():
    facts = find("owner/tiny", "{commit}")
    return load(ModelRef(name=facts.name, revision=facts.revision), facts, torch.device("cpu")).parameters
answers["loaded"] = told(loading)
"""
    for kind, message, fix in asked(hub.endpoint, home, script, HF_HUB_OFFLINE="1").values():
        assert kind == "ModelProblem"
        assert message == "The model owner/tiny is not wholly in the cache, and the hub is off."
        assert "peftbench fetch" in fix
    whole = asked(hub.endpoint, home, script)
    assert whole["facts"] == commit
    assert whole["loaded"] > 0
    assert asked(hub.endpoint, home, script, HF_HUB_OFFLINE="1") == whole
    # Weights without a tokenizer are a sentence as well.
    for path in home.rglob("tokenizer*"):
        path.unlink()
    kind, message, fix = asked(hub.endpoint, home, script, HF_HUB_OFFLINE="1")["loaded"]
    assert (kind, bool(fix), "\n" in message) == ("ModelProblem", True, False)


def test_what_is_wrong_with_a_model_is_one_sentence_and_a_fix(hub: Hub, home: Path) -> None:
    files, _ = tiny_llama(1)
    pickled = {key: value for key, value in files.items() if key != "model.safetensors"}
    hub.add("model", "owner/good", files)
    hub.add("model", "owner/pickled", {**pickled, "pytorch_model.bin": b"\x80\x04."})
    hub.add("model", "owner/words", {"README.md": "no model"})
    hub.add("model", "owner/closed", files)
    hub.add("model", "owner/foreign", {**files, "config.json": json.dumps({"model_type": "bert"})})
    hub.gate("model", "owner/closed")
    answers = asked(
        hub.endpoint,
        home,
        """
names = ("good", "pickled", "words", "closed", "foreign", "missing", "two words")
answers.update({name: told(lambda: str(find(f"owner/{name}").folder)) for name in names})
answers["revision"] = told(lambda: find("owner/good", "v9"))
""",
    )
    assert answers.pop("good") == "None"
    expected = {
        "pickled": "The model owner/pickled has no weights as safetensors.",
        "words": "The model owner/words has no config.json.",
        "closed": "The model owner/closed is gated.",
        "foreign": "of the family 'bert', which has no role map",
        "missing": "There is no model owner/missing on the hub.",
        "two words": "'owner/two words' is not the id of a model.",
        "revision": "The model owner/good has no revision 'v9'.",
    }
    assert set(answers) == set(expected)
    for name, (kind, message, fix) in answers.items():
        assert kind == "ModelProblem", name
        assert expected[name] in message
        assert fix
        assert "\n" not in message
