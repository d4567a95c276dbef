"""What a model is, found out without weights and without torch: from a folder, the hub, or the package itself."""

from __future__ import annotations

import hashlib
import json
import os.path
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from peftbench import hub
from peftbench.errors import ModelProblem
from peftbench.mirror import Locked, model_folder, read_lock, verify
from peftbench.models._roles import ARCHITECTURES, Roles

# Files whose content decides what a model answers.
_IDENTITY = ("*.json", "*.safetensors", "*.gguf", "*.jinja", "*.model", "merges.txt", "vocab.txt", "*.py")
_NOT_IDENTITY = ("generation_config.json",)
# What the library assumes where `config.json` is silent: windows of some families, and those that have them off.
_WINDOWS = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096}
_WINDOW_OFF = {"qwen2", "qwen3"}


@dataclass(frozen=True)
class ModelFacts:
    """What can be said of a model from its files' names and its `config.json`.

    `sliding_window` is the number of tokens that some layer sees of those before, None where all layers see all;
    `folder` is None for a model of the hub; `mirrored` says that it lies in a mirror, which has to be asked for it.
    """

    name: str
    revision: str
    model_type: str
    context: int
    hidden_size: int
    layers: int
    vocabulary: int
    sliding_window: int | None
    folder: Path | None
    mirrored: bool = False

    @property
    def roles(self) -> Roles:
        """The layers of the architecture by role."""
        return ARCHITECTURES[self.model_type]


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
    locked.check_revision(name, revision)
    verify(root, locked)
    facts = _in_folder(root / model_folder(name))
    return replace(facts, name=name, revision=locked.commit or facts.revision, mirrored=True)


def gguf_file(folder: Path) -> Path | None:
    """The packed weights of a folder that has no safetensors.

    Raises:
        ModelProblem: the folder holds several packed files, such as one for each quantisation.
    """
    packed = sorted(folder.glob("*.gguf"))
    if not packed or list(folder.glob("*.safetensors")):
        return None
    if len(packed) > 1:
        raise ModelProblem(
            f"The folder {folder} holds several packed models: {', '.join(path.name for path in packed)}.",
            "Keep the one to be used in a folder of its own.",
        )
    return packed[0]


def content_hash(folder: Path) -> str:
    """A hash over the files that decide what the model answers; where they lie does not matter."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _IDENTITY for path in folder.glob(pattern)}):
        if path.name not in _NOT_IDENTITY:
            with path.open("rb") as file:
                digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()};".encode())
    return digest.hexdigest()[:16]


def _in_folder(folder: Path) -> ModelFacts:
    if not (folder / "config.json").is_file():
        raise ModelProblem(f"The folder {folder} has no config.json.", "Name a folder saved with save_pretrained.")
    config = _read_config(folder / "config.json")
    packed = gguf_file(folder)
    if packed is None and not list(folder.glob("*.safetensors")):
        pickled = list(folder.glob("*.bin"))
        fix = (
            "Convert its .bin files to safetensors." if pickled else "Copy the *.safetensors (or *.gguf) files as well."
        )
        raise ModelProblem(f"The folder {folder} has no weights as safetensors.", fix)
    resolved = folder.resolve()
    name = _gguf_name(packed) if packed else resolved.name
    return _facts(config, name=name, revision=content_hash(folder), folder=resolved)


def _gguf_name(packed: Path) -> str:
    model, _, quantisation = packed.stem.rpartition(".")
    return f"{model or packed.stem} ({quantisation}, unpacked)" if model else f"{packed.stem} (unpacked)"


def _on_hub(name: str, revision: str | None) -> ModelFacts:
    commit = hub.resolve("model", name, revision)
    names = hub.file_names("model", name, commit)
    if "config.json" not in names:
        raise ModelProblem(f"The model {name} has no config.json.", "Name a model saved with save_pretrained.")
    if not any(file.endswith(".safetensors") for file in names):
        raise ModelProblem(
            f"The model {name} has no weights as safetensors.", "Name a revision or a model that has them."
        )
    from huggingface_hub import hf_hub_download

    with hub.hub_errors("model", name, revision):
        config = _read_config(Path(hf_hub_download(name, "config.json", revision=commit)))
    return _facts(config, name=name, revision=commit, folder=None)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelProblem(f"{path} cannot be read: {error}.", "Copy the model folder again.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelProblem(f"{path} names no model_type.", "It has to be the config.json of a transformers model.")
    return config


def _facts(config: Mapping[str, Any], *, name: str, revision: str, folder: Path | None) -> ModelFacts:
    model_type = config["model_type"]
    if model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelProblem(
            f"The model {name} is of the family {model_type!r}, which has no role map.", f"Mapped: {known}."
        )

    def first(*keys: str) -> int:
        return next((int(config[key]) for key in keys if config.get(key) is not None), 0)

    return ModelFacts(
        name=name,
        revision=revision,
        model_type=model_type,
        context=first("max_position_embeddings", "n_positions", "n_ctx"),
        hidden_size=first("hidden_size", "n_embd"),
        layers=first("num_hidden_layers", "n_layer"),
        vocabulary=first("vocab_size"),
        sliding_window=_sliding_window(config),
        folder=folder,
    )


def _sliding_window(config: Mapping[str, Any]) -> int | None:
    """The window that the library gives the model; some families keep a number that a switch turns off."""
    if not config.get("use_sliding_window", config["model_type"] not in _WINDOW_OFF):
        return None
    window = config.get("sliding_window", _WINDOWS.get(config["model_type"]))
    return None if window is None else int(window)
