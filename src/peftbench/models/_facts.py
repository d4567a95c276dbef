"""What a model is, found out without weights and without torch: from a folder, the hub, or the package itself."""

from __future__ import annotations

import hashlib
import json
import os.path
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from peftbench import hub
from peftbench.errors import DataProblem, ModelProblem, first_line
from peftbench.mirror import LOCK, Locked, model_folder, read_lock, verify
from peftbench.models._roles import ARCHITECTURES, TRANSPOSED, Roles
from peftbench.models._shapes import shapes
from peftbench.shapes import Shapes
from peftbench.spec import Quantization

# Files whose content decides what a model answers: all that the library looks for in a folder.
_IDENTITY = (
    *("*.json", "*.safetensors", "*.gguf", "*.py"),
    *("*.jinja", "additional_chat_templates/*.jinja"),
    *("*.model*", "*.spm", "*.tiktoken", "bpe.codes", "dict.txt", "merges.txt", "vocab.txt"),
)
_NOT_IDENTITY = ("generation_config.json",)
# The names of weights that are looked for, where `config.json` does not name another file.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# What the library assumes where `config.json` is silent: windows of some families, and those that have them off.
_WINDOWS = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096}
_WINDOW_OFF = {"qwen2", "qwen3"}


@dataclass(frozen=True)
class ModelFacts:
    """What can be said of a model from its files' names and its `config.json`.

    `sliding_window` is the number of tokens that some layer sees of those before, None where all layers see all;
    `folder` is None for a model of the hub; `mirrored` says that it lies in a mirror, which has to be asked for it.
    `quantization` says how the linear layers are packed where the model is used, None where they are as in the files.
    """

    name: str
    revision: str
    model_type: str
    context: int
    shapes: Shapes
    sliding_window: int | None
    folder: Path | None
    mirrored: bool = False
    quantization: Quantization | None = None

    @property
    def roles(self) -> Roles:
        """The layers of the architecture by role."""
        return ARCHITECTURES[self.model_type]

    @property
    def transposed(self) -> bool:
        """Whether linear layers keep their weights transposed; those that are packed do not."""
        return self.model_type in TRANSPOSED and self.quantization is None

    def longest_in_row(self, virtual_tokens: int) -> int | None:
        """Tokens of a text that all see each other, behind a method's virtual ones; None where there is no limit.

        A row of several texts says by a mask who sees whom, and a window of attention would not be heard beside it.
        """
        return None if self.sliding_window is None else self.sliding_window - virtual_tokens

    @property
    def hidden_size(self) -> int:
        """The width of the embeddings, as `transformers` calls it."""
        return self.shapes.hidden


def embedded_names() -> list[str]:
    """The models inside the package."""
    return sorted(item.name for item in files(__package__).iterdir() if (item / "config.json").is_file())


def find(name: str, revision: str | None = None, data_root: str | None = None) -> ModelFacts:
    """Find a model by its name in the mirror, the name of an embedded one, a folder, or a hub id.

    Raises:
        ModelProblem: there is no such model, it has no weights, or its architecture has no role map.
        DataProblem: the model of the mirror is not the one that its lock names.
    """
    locked = read_lock(Path(data_root)).models.get(name) if data_root is not None else None
    if data_root is not None and locked is not None:
        return _in_mirror(Path(data_root), name, locked, revision)
    path = Path(str(files(__package__) / name)) if name in embedded_names() else Path(name)
    # `os.path` answers False for a name that is too long to be a path.
    if os.path.isdir(path):  # noqa: PTH112
        if revision is not None:
            raise ModelProblem(
                f"The folder {name} has no revisions.", "Leave `revision` away: a folder counts by content."
            )
        return _in_folder(path)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelProblem(
            f"There is no model {name!r}.", f"Give a folder, a hub id (owner/name), or: {', '.join(embedded_names())}."
        )
    return _on_hub(name, revision)


def _in_mirror(root: Path, name: str, locked: Locked, revision: str | None) -> ModelFacts:
    """What was fetched counts as what it was on the hub: the same run has the same id with a mirror and without."""
    inside = model_folder(name)
    verify(root, locked, {*locked.files, f"{inside}/config.json"})
    for path in _identity_files(root / inside):
        if path.relative_to(root).as_posix() not in locked.files:
            raise DataProblem(
                f"{path} was not fetched, and could change what the model answers: {LOCK} does not name it.",
                "Move it away.",
            )
    facts = _in_folder(root / inside)
    facts = replace(facts, name=name, revision=locked.commit or facts.revision, mirrored=True)
    # What came from a package has no commit: a run that was planned with it asks for its content.
    if revision != facts.revision:
        locked.check_revision(name, revision)
    return facts


def gguf_file(folder: Path) -> Path | None:
    """The packed weights of a folder that has no safetensors.

    Raises:
        ModelProblem: the folder holds several packed files, such as one for each quantisation.
    """
    packed = [path for path in sorted(folder.glob("*.gguf")) if path.is_file()]
    if not packed or any((folder / name).is_file() for name in _WEIGHTS):
        return None
    if len(packed) > 1:
        raise ModelProblem(
            f"The folder {folder} holds several packed models: {', '.join(path.name for path in packed)}.",
            "Keep the one to be used in a folder of its own.",
        )
    return packed[0]


def content_hash(folder: Path) -> str:
    """A hash over the files that decide what the model answers; where they lie does not matter.

    Raises:
        ModelProblem: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for path in _identity_files(folder):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelProblem(f"{path} cannot be read: {error.strerror}.", "See who may read it.") from error
        digest.update(f"{path.relative_to(folder).as_posix()}:{content};".encode())
    return digest.hexdigest()[:16]


def _identity_files(folder: Path) -> list[Path]:
    """The files that decide what a model answers, in the order of their names.

    Raises:
        ModelProblem: one is a link to nothing.
    """
    found = sorted({path for pattern in _IDENTITY for path in folder.glob(pattern) if path.name not in _NOT_IDENTITY})
    for path in found:
        # `os.path` answers False where a link leads to what may not be looked at.
        if not os.path.exists(path):  # noqa: PTH110
            raise ModelProblem(f"{path} is a link to a file that is not there.", "Copy the file itself.")
    return [path for path in found if path.is_file()]


def _in_folder(folder: Path) -> ModelFacts:
    what, names = f"The folder {folder}", {path.name for path in _identity_files(folder) if path.parent == folder}
    _refuse_adapter(what, names)
    if "config.json" not in names:
        raise ModelProblem(f"{what} has no config.json.", "Name a folder saved with save_pretrained.")
    config = _read_config(folder / "config.json")
    packed = gguf_file(folder)
    weights = _weights(config, names)
    if packed is None and weights is None:
        pickled = list(folder.glob("*.bin"))
        fix = (
            "Convert its .bin files to safetensors." if pickled else "Copy the *.safetensors (or *.gguf) files as well."
        )
        raise ModelProblem(f"{what} has no weights as safetensors.", fix)
    if weights is not None and (lacking := _lacking(folder / weights, names)):
        raise ModelProblem(
            f"{what} lacks {lacking[0]}, which its {weights} names.", "Copy all files with weights, right into it."
        )
    resolved = folder.resolve()
    name = _gguf_name(packed) if packed else resolved.name
    return _facts(config, name=name, revision=content_hash(folder), folder=resolved)


def _refuse_adapter(what: str, names: Collection[str]) -> None:
    """The library loads it as well, and for a model of the hub takes the weights from the base that it names."""
    if "adapter_config.json" in names:
        raise ModelProblem(
            f"{what} holds an adapter (adapter_config.json), which would be loaded as a part of the model.",
            "Name the base model alone, or merge the adapter into it and save that.",
        )


def _weights(config: Mapping[str, Any], names: Collection[str]) -> str | None:
    """The file that loading starts from: the weights, or the index of their parts."""
    named = config.get("transformers_weights")
    return next((name for name in ([named] if isinstance(named, str) else _WEIGHTS) if name in names), None)


def _lacking(weights: Path, names: Collection[str]) -> list[str]:
    """The parts that an index names and that are not there; none for weights in one file."""
    if not weights.name.endswith(".index.json"):
        return []
    parts = _read_json(weights).get("weight_map")
    if not isinstance(parts, dict):
        raise ModelProblem(f"{weights} names no weights.", "Copy the model folder again.")
    return sorted({str(part) for part in parts.values()} - {*names})


def _gguf_name(packed: Path) -> str:
    model, _, quantisation = packed.stem.rpartition(".")
    return f"{model or packed.stem} ({quantisation}, unpacked)" if model else f"{packed.stem} (unpacked)"


def _on_hub(name: str, revision: str | None) -> ModelFacts:
    commit = hub.resolve("model", name, revision)
    # What lies in folders of a repository is not loaded.
    names = {file for file in hub.file_names("model", name, commit) if "/" not in file}
    what = f"The model {name}"
    from huggingface_hub import constants, hf_hub_download

    def fetched(file: str) -> Path:
        with hub.hub_errors("model", name, revision):
            return Path(hf_hub_download(name, file, revision=commit))

    off = constants.HF_HUB_OFFLINE
    _refuse_adapter(what, names)
    if "config.json" not in names:
        if off:
            raise _not_cached(what)
        raise ModelProblem(f"{what} has no config.json.", "Name a model saved with save_pretrained.")
    config = _read_config(fetched("config.json"))
    weights = _weights(config, names)
    if off and (weights is None or _lacking(fetched(weights), names)):
        raise _not_cached(what)
    if weights is None:
        raise ModelProblem(f"{what} has no weights as safetensors.", "Name a revision or a model that has them.")
    return _facts(config, name=name, revision=commit, folder=None)


def _not_cached(what: str) -> ModelProblem:
    """Where the hub is off nobody knows which files a model has, but for those that are cached."""
    return ModelProblem(
        f"{what} is not wholly in the cache, and the hub is off.",
        "Run without HF_HUB_OFFLINE, or use a mirror that was filled before (peftbench fetch) with --data-root DIR.",
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    # Lists in lists without end are a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelProblem(f"{path} cannot be read: {first_line(error)}.", "Copy the model folder again.") from error
    return found if isinstance(found, dict) else {}


def _read_config(path: Path) -> Mapping[str, Any]:
    config = _read_json(path)
    if "model_type" not in config:
        raise ModelProblem(f"{path} names no model_type.", "It has to be the config.json of a transformers model.")
    return config


def _facts(config: Mapping[str, Any], *, name: str, revision: str, folder: Path | None) -> ModelFacts:
    model_type = config["model_type"]
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelProblem(
            f"The model {name} is of the family {reprlib.repr(model_type)}, which has no role map.", f"Mapped: {known}."
        )

    if "quantization_config" in config:
        raise ModelProblem(
            f"The weights of the model {name} are packed in its files (quantization_config).",
            "Name the model that they were packed from, and ask for it in 4 or 8 bits: {use: MODEL, quantization: nf4}",
        )

    def read(key: str) -> int | None:
        # A switch is read as 0 or 1.
        value = config.get(key)
        return int(value) if isinstance(value, bool) else _number(config, key, name)

    sizes = ("max_position_embeddings", "n_positions", "n_ctx")
    return ModelFacts(
        name=name,
        revision=revision,
        model_type=model_type,
        context=next((number for key in sizes if (number := read(key)) is not None), 0),
        shapes=shapes(model_type, read),
        sliding_window=_sliding_window(config, name),
        folder=folder,
    )


def _sliding_window(config: Mapping[str, Any], name: str) -> int | None:
    """The window that the library gives the model; some families keep a number that a switch turns off."""
    if not config.get("use_sliding_window", config["model_type"] not in _WINDOW_OFF):
        return None
    if "sliding_window" in config:
        return _number(config, "sliding_window", name)
    return _WINDOWS.get(config["model_type"])


def _number(config: Mapping[str, Any], key: str, name: str) -> int | None:
    """A size, None where the configuration has none."""
    value = config.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ModelProblem(
        f"In the config.json of the model {name} {key} is {reprlib.repr(value)}, not a whole number.",
        "Copy the file again.",
    )
