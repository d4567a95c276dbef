"""Bad input: one sentence with a remedy and exit code 2 before anything is started; what is stored stays as it is."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from e2e.command import Result, peftbench, snapshot
from peftbench.store import Store

TINY = Path(str(files("peftbench.models") / "tiny"))
ASK = ("--tasks", "toy_mood", "--models", "tiny", "--methods", "zero_shot", "--seeds", "1")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run."""
    store = tmp_path_factory.mktemp("filled") / "store"
    done = peftbench("run", *ASK, "--store", store, "--no-report", "evaluate.limit=4")
    assert done.code == 0, done.err
    return store


def _suite(text: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        (folder / "mine.yaml").write_text(text)
        return ["mine.yaml"]

    return write


def _mirror(rows: list[dict[str, object]]) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        (folder / "data" / "sst2").mkdir(parents=True)
        for name in ("train", "validation"):
            with gzip.open(folder / "data" / "sst2" / f"{name}.jsonl.gz", "wt") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        return ["--tasks", "sst2", "--models", "tiny", "--methods", "zero_shot", "--data-root", "data"]

    return write


def _model(*, weights: str | None) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        shutil.copytree(TINY, folder / "model")
        (folder / "model" / "model.safetensors").unlink()
        if weights:
            (folder / "model" / weights).write_bytes(b"x")
        return ["--tasks", "toy_mood", "--models", "model", "--methods", "zero_shot"]

    return write


def _family(folder: Path) -> list[str]:
    shutil.copytree(TINY, folder / "model")
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    return ["--tasks", "toy_mood", "--models", "model", "--methods", "zero_shot"]


def _namesakes(folder: Path) -> list[str]:
    """Two task files of one name, with other rows."""
    for name in ("one", "other"):
        (folder / name).mkdir()
        template = (files("peftbench.tasks") / "_template.yaml").read_text(encoding="utf-8")
        (folder / name / "mine.yaml").write_text(template.replace("TITLE", "mine"))
        rows = (files("peftbench.tasks") / "_template.csv").read_text(encoding="utf-8")
        (folder / name / "mine.csv").write_text(rows if name == "one" else rows.replace("a", "e"))
    return ["--tasks", "one/mine.yaml,other/mine.yaml", "--models", "tiny", "--methods", "zero_shot"]


def _options(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: list(arguments)


GOOD = "tasks: [toy_mood]\nmodels: [tiny]\nmethods: [zero_shot]\n"
CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "task": (
        _options("--tasks", "sst3", "--models", "tiny", "--methods", "lora"),
        "Unknown task 'sst3'. Did you mean 'sst2'?",
    ),
    "method": (_options("--tasks", "toy_mood", "--models", "tiny", "--methods", "loar"), "Did you mean 'lora'?"),
    "model": (_options("--tasks", "toy_mood", "--models", "tinny", "--methods", "lora"), "There is no model 'tinny'"),
    "suite": (_options("quickstat"), "Did you mean 'quickstart'?"),
    "suite file": (_options("nowhere.yaml"), "There is no suite file nowhere.yaml."),
    "nothing": (_options(), "Nothing was asked for. Name a suite (peftbench run quickstart)"),
    "key": (_suite(GOOD + "sedes: [1]\n"), "Unknown key 'sedes' in mine.yaml. Did you mean 'seeds'?"),
    "key of train": (_suite(GOOD + "train: {leraning_rate: 1e-3}\n"), "Did you mean 'learning_rate'?"),
    "broken YAML": (_suite("tasks: [toy_mood\n"), "mine.yaml is not YAML"),
    "key twice": (_suite(GOOD + "tasks: [rte]\n"), "mine.yaml holds a key twice (line 4)"),
    "seed": (_suite(GOOD + "seeds: [one]\n"), "should be a valid integer (got 'one')"),
    "seed option": (_options(*ASK[:-1], "one"), "should be a valid integer (got 'one')"),
    "limit of 0": (_options(*ASK, "evaluate.limit=0"), "should be greater than or equal to 1 (got 0)"),
    "dtype": (_suite(GOOD.replace("[tiny]", "{use: tiny, dtype: [bf16]}")), "dtype: Input should be"),
    "long name": (_options("x" * 300), "Unknown suite"),
    "long model": (_options("--tasks", "toy_mood", "--models", "x" * 300, "--methods", "lora"), "There is no model"),
    "number": (_suite(GOOD.replace("[toy_mood]", "5")), "tasks"),
    "misplaced": (_options(*ASK, "max_steps=3"), "The suite has no setting 'max_steps'. Write: train.max_steps=3"),
    "rate in the method": (
        _suite(GOOD.replace("zero_shot", "{use: lora, lr: 1e-3}")),
        "'lr' is no hyperparameter of lora. Write: {use: lora, train.lr: ...}",
    ),
    "namesakes": (_namesakes, "Two different tasks are called mine. Give one of the files another name."),
    "name as a key": (_suite(GOOD.replace("zero_shot", "lora: {r: 4}")), "write it as: {use: NAME, ...}"),
    "override": (_options(*ASK, "trian.limit=3"), "Unknown section 'trian'"),
    "hyperparameter": (
        _suite(GOOD.replace("zero_shot", "{use: lora, rank: 3}")),
        "Unknown hyperparameter 'rank' in method lora",
    ),
    "value of one": (_suite(GOOD.replace("zero_shot", "{use: lora, r: many}")), "Method lora: r: "),
    "missing column": (
        _mirror([{"text": "fine", "label": 1}]),
        "sst2/train.jsonl.gz, row 1 has no column 'sentence'; it has: label, text.",
    ),
    "label": (_mirror([{"sentence": "fine", "label": 7}]), "the label 7 is not declared"),
    "empty split": (_mirror([]), "has no rows"),
    "no mirror": (
        _options("--tasks", "sst2", "--models", "tiny", "--methods", "lora", "--data-root", "nowhere"),
        "/nowhere. Check --data-root",
    ),
    "data root is a file": (
        _options("--tasks", "sst2", "--models", "tiny", "--methods", "lora", "--data-root", str(TINY / "config.json")),
        "config.json is a file. --data-root names a folder.",
    ),
    "no weights": (_model(weights=None), "has no weights as safetensors. Copy the *.safetensors"),
    "pickled weights": (_model(weights="pytorch_model.bin"), "Convert its .bin files to safetensors."),
    "family": (_family, "is of the family 'mamba', which has no role map"),
    "misfit": (
        _suite(GOOD.replace("zero_shot", "{use: prompt_tuning, num_virtual_tokens: 4000}")),
        "Nothing of adhoc can be run".replace("adhoc", "mine"),
    ),
    "method file": (
        _options(*ASK[:5], "nowhere.py"),
        "There is no file nowhere.py. Write one with: peftbench new method nowhere.py",
    ),
    "nothing but tasks": (_options("--tasks", "toy_mood"), "models is missing. Add it."),
    "device": (_options(*ASK, "--device", "cuda", "evaluate.limit=6"), "This machine has no cuda device."),
    "executor": (_options(*ASK, "--executor", "slrum"), "Unknown executor 'slrum'"),
}


@pytest.mark.parametrize("case", [name for name in CASES if name != "device" or not torch.cuda.is_available()])
def test_one_sentence_and_nothing_lost(case: str, filled: Path, tmp_path: Path) -> None:
    prepare, expected = CASES[case]
    before = snapshot(filled)
    result = peftbench("run", *prepare(tmp_path), "--store", filled, folder=tmp_path)
    assert result.code == 2
    assert expected in result.sentence
    assert "Traceback" not in result.err
    assert snapshot(filled) == before


def test_a_good_command_is_not_refused(filled: Path) -> None:
    """The table above could not fail if every command ended with 2."""
    assert peftbench("run", *ASK, "--store", filled, "--no-report", "evaluate.limit=4").code == 0


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system in memory; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"mount{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.mount
def test_a_read_only_store(filled: Path, mount: Callable[[str], Path]) -> None:
    place = mount("size=4m")
    shutil.copytree(filled, place / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    before = snapshot(place)
    result = peftbench("run", *ASK, "--store", place / "store", "evaluate.limit=5")
    assert result.code == 2
    assert "cannot be written: read-only file system. Name another folder with --store." in result.sentence
    assert snapshot(place) == before
    assert peftbench("status", "--store", place / "store").code == 0


@pytest.mark.mount
def test_a_full_disk_before_the_start(filled: Path, mount: Callable[[str], Path]) -> None:
    place = mount("size=400k")
    shutil.copytree(filled, place / "store")
    _fill(place / "ballast")
    before = snapshot(place / "store")
    result = peftbench("run", *ASK, "--store", place / "store", "evaluate.limit=5")
    assert result.code == 2
    assert "cannot be written: no space left on device" in result.sentence
    assert {**before, **snapshot(place / "store")} == snapshot(place / "store")


@pytest.mark.mount
@pytest.mark.parametrize(("checkpoint", "phase"), [("best", "fit"), ("last", "save")])
def test_a_disk_that_fills_up(filled: Path, mount: Callable[[str], Path], checkpoint: str, phase: str) -> None:
    """Neither checkpoint nor adapter of full fine-tuning fit: a recorded failure, earlier records untouched."""
    place = mount("size=1m")
    shutil.copytree(filled, place / "store")
    before = snapshot(place / "store")
    ask = [*ASK[:4], "--methods", "full", "--seeds", "1", "train.max_steps=1", "train.limit=8", "evaluate.limit=4"]
    result = peftbench("run", *ask, f"train.checkpoint={checkpoint}", "--store", place / "store", "--no-report")
    assert result.code == 1, result.err
    failed = [record for record in Store(place / "store").records() if record.failure]
    assert [record.failure.phase for record in failed if record.failure] == [phase]
    assert phase == "save" or "MiB of weights cannot be written" in failed[0].failure.message  # type: ignore[union-attr]
    after = snapshot(place / "store")
    assert {key: after[key] for key in before} == before
    assert not [key for key in after if "adapter" in key]


def _fill(path: Path) -> Result | None:
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
    except OSError:
        return None
